"""A job and real kernels: restarted, killed, and replaced by a script, while it trains."""

import json
import sys
import time

import pytest
from jupyter_client import KernelManager

from ymir_nb.backend.jobs import Jobs

ORDER = """
import ymir_nb as ym
ws = ym.Workspace.open({root!r})
order = ym.order_training(
    ws, "dogs", train="train", val="val", executor="average", parameters={{"idle_seconds": {idle}}}
)
job = ym.jobs(ws).start(order)
"""


class Kernel:
    """A real kernel, as JupyterLab starts it."""

    def __init__(self):
        self.manager = KernelManager()
        self.manager.start_kernel()
        self.connect()

    def connect(self):
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code):
        said = []
        reply = self.client.execute_interactive(
            code, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", ""))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(said)

    def send(self, code):
        self.client.execute(code)

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.connect()

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    made.end()


@pytest.fixture
def data(workspace, average, make_dataset):
    workspace.save(make_dataset(4), "train", operation="import")
    workspace.save(make_dataset(3, start=10), "val", operation="import")
    return workspace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of a killed kernel's client
def test_case_45_a_job_goes_on_while_its_kernel_is_restarted_and_another_takes_its_result(data, kernel):
    code = ORDER.format(root=str(data.root), idle=4.0)
    kernel.send(code + "ym.jobs(ws).wait(job.id)")
    deadline = time.monotonic() + 60
    while not (found := [r for r in Jobs.of(data).records() if r.state == "running"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kernel.restart()
    said = kernel.run(
        f"import ymir_nb as ym; ws = ym.Workspace.open({str(data.root)!r})\n"
        f"jobs = ym.jobs(ws); print(jobs.attach({found[0].id!r}).state)\n"
        f"jobs.wait({found[0].id!r}); print(ym.jobs(ws).attach({found[0].id!r}).result)"
    )
    assert said.split() == ["running", "dogs@v1"]
    record = Jobs.of(data).attach(found[0].id)
    assert (record.state, record.created) == ("done", found[0].created)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_case_45_a_kernel_that_is_killed_leaves_its_job_to_a_shell(data, kernel, run):
    said = kernel.run(ORDER.format(root=str(data.root), idle=3.0) + "print(job.id)")
    kernel.manager.provisioner.process.kill()
    job_id = said.strip()
    assert Jobs.of(data).attach(job_id).state == "running"
    attached = json.loads(run(sys.executable, "-m", "ymir_nb", "jobs", "attach", job_id, "--json", cwd=data.root))
    assert (attached["state"], attached["result"]) == ("done", "dogs@v1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_case_60_interrupting_a_cell_stops_the_waiting_and_not_the_job(data, kernel):
    kernel.run(ORDER.format(root=str(data.root), idle=600))
    kernel.send("ym.jobs(ws).wait(job.id)")
    time.sleep(1.0)
    kernel.manager.interrupt_kernel()
    ended = kernel.client.get_shell_msg(timeout=60)["content"]
    assert ended["ename"] == "KeyboardInterrupt"
    assert "keeps running" in ended["evalue"]
    said = kernel.run("print(ym.jobs(ws).attach(job.id).state, ym.jobs(ws).cancel(job.id).state)")
    assert said.split() == ["running", "cancelled"]
    assert Jobs.of(data).records()[0].state == "cancelled"
