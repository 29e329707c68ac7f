# The commands of ymir-nb; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
EXECUTOR ?=
DEMO ?= demo$(if $(EXECUTOR),-$(EXECUTOR))

.DEFAULT_GOAL := help
.PHONY: help demo test lab check bench bench-eval bench-mining clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.demo ## run the whole loop headless into demo/; DATA=path/to/voc, EXECUTOR=docker
ifeq ($(EXECUTOR),docker)
	test -d "$(DEMO)" || $(BIN)/ymir-nb init "$(DEMO)"
	$(BIN)/ymir-nb -w "$(DEMO)" executor build $(if $(BASE),--base "$(BASE)") $(if $(WHEELS),--wheels "$(WHEELS)")
endif
	$(BIN)/ymir-nb demo --to "$(DEMO)" $(if $(DATA),--data "$(DATA)") $(if $(EXECUTOR),--executor $(EXECUTOR:docker=tiny-docker))

test: $(VENV)/.test ## run all tests, the notebooks and the templates
	$(BIN)/python -m pytest -n 2 --dist loadgroup
	YMIR_NB_WORKSPACE=$$(mktemp -d)/helmets $(BIN)/python -m pytest --nbval-lax --nbval-sanitize-with tests/nbval_sanitize.cfg \
		-p no:cacheprovider -c tests/nbval.ini --rootdir . notebooks

lab: $(VENV)/.demo ## open JupyterLab on notebooks/00_start_here.ipynb
	$(BIN)/ymir-nb lab

check: $(VENV)/.test ## lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test ## print the ratios of the benchmarks
	for script in $(filter-out benchmarks/mining.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script; done

bench-eval: $(VENV)/.test ## evaluation beside pycocotools and faster-coco-eval
	$(BIN)/python benchmarks/evaluation.py

bench-mining: $(VENV)/.test ## mining strategies against random: hours, and it goes on where it stopped; ONLY=rare, SEEDS=1,2
	$(BIN)/python benchmarks/mining.py $(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STRATEGIES),--strategies $(STRATEGIES))

clean: ## remove the environment and the demo
	rm -rf $(VENV) $(DEMO)

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,lab]"
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,lab,embeddings,test]"
	touch $@
