"""Training past one machine: two hosts that are network namespaces, and a real Slurm of one machine on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from harness.project import ROOT, Project, install

pytestmark = pytest.mark.slow

# --- Two hosts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts():
    """Make two network namespaces with a cable between them; return a function that starts a program on one of them."""
    names, addresses = [f"digitsum-{os.getpid()}-{host}" for host in range(2)], ["192.0.2.1/24", "192.0.2.2/24"]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root and ip netns: {error}")
    cable = ["ip", "link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1]]
    subprocess.run(cable, check=True)
    started = []

    def start(host, code):
        variables = {"RANK": host, "WORLD_SIZE": 2, "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": 29500}
        environment = {**os.environ, "MASTER_KEY": "key", "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {name: str(value) for name, value in variables.items()}
        command = ["ip", "netns", "exec", names[host], sys.executable, *code]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, **options))
        return started[-1]

    try:
        for name, address in zip(names, addresses, strict=True):
            for change in (["addr", "add", address, "dev", "eth0"], ["link", "set", "eth0", "up"]):
                subprocess.run(["ip", "-n", name, *change], check=True)
        yield names, start
    finally:
        for process in started:
            process.kill()
            process.communicate()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


def test_two_hosts_give_the_bits_of_one(hosts):
    _, start = hosts
    code = "from harness.few_steps import main; main()\nfrom digitsum.training.workers import release; release()"
    alone = subprocess.run([sys.executable, "tests/harness/few_steps.py"], cwd=ROOT, capture_output=True, text=True)
    first, second = start(0, ["-c", code]), start(1, ["-m", "digitsum.training"])
    printed, errors = first.communicate(timeout=300)
    assert (second.wait(30), errors) == (0, "")
    assert printed == alone.stdout


def test_a_host_that_vanishes_ends_the_training_within_minutes(hosts):
    names, start = hosts
    code = "from harness.few_steps import main; main(lambda _: print('trained', flush=True), epochs=10_000)"
    first, second = start(0, ["-c", code]), start(1, ["-m", "digitsum.training"])
    assert first.stdout.readline() == "trained\n"
    subprocess.run(["ip", "-n", names[1], "link", "set", "eth0", "down"], check=True)
    begin = time.monotonic()
    _, errors = first.communicate(timeout=120)
    assert time.monotonic() - begin < 90
    assert "worker 1 of 2 has ended" in errors
    assert second.wait(120) != 0


# --- Experiments beside one another ----------------------------------------------------------------------------------


@pytest.fixture
def shared(finished, tmp_path):
    """Return a project with its commands, whose last commit has results for four shards."""
    project = install(finished.copy(tmp_path / "project"))
    project.set_param("train.shards", 4)
    project.reproduce()
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Four shards")
    return project


def test_a_loop_gives_each_card_an_experiment_and_fails_if_one_fails(shared):
    shared.environment["WORLD_SIZE"] = "1"
    changes = ["model.fusion=concat train.seed=1", "train.lr=0.005", "train.seed=2"]
    printed = shared.succeed("scale/cards.sh", "2", *changes)
    assert printed.count("Running stage 'train'") == len(changes)
    assert "Running stage 'pair'" not in printed  # its outputs are in the cache
    names = ["model.fusion=concat-train.seed=1", "train.lr=0.005", "train.seed=2"]
    assert sorted(shared.succeed("dvc", "exp", "list", "--name-only").split()) == names
    failed = shared.fail("scale/cards.sh", "1", "model.fusion=nonsense", "train.seed=3")
    assert "nonsense" in failed.partition("error:")[2]
    assert "train.seed=3" in shared.succeed("dvc", "exp", "list", "--name-only").split()
    shared.succeed("dvc", "exp", "apply", names[0])
    shared.succeed("digitsum", "verify")
    assert "error: not committed: dvc.lock" in shared.fail("scale/experiment.sh", "train.seed=4")


def test_an_experiment_takes_data_from_a_remote_and_leaves_its_results_there(shared, tmp_path):
    shared.succeed("dvc", "remote", "add", "--default", "storage", tmp_path / "storage")
    shared.succeed("dvc", "push", "--quiet")
    shared.succeed("git", "commit", "--all", "--quiet", "--message", "A remote")
    printed = shared.succeed("scale/experiment.sh", "model.fusion=concat")
    assert "Running stage 'train'" in printed
    assert "Running stage 'pair'" not in printed
    shared.succeed("git", "clone", "--quiet", ".", tmp_path / "colleague")
    colleague = Project(tmp_path / "colleague", "no mirror")
    colleague.succeed("dvc", "exp", "pull", "origin", "model.fusion=concat")
    colleague.succeed("dvc", "exp", "apply", "model.fusion=concat")
    colleague.succeed("digitsum", "verify")


# --- Slurm -----------------------------------------------------------------------------------------------------------

needs_slurm = pytest.mark.skipif(
    not shutil.which("slurmctld") or os.geteuid() != 0, reason="needs root and apt install slurmctld slurmd"
)
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@pytest.fixture
def slurm(tmp_path):
    """Start Slurm; return the variables that its commands need."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [server.getsockname()[1] for server in (one, two)]
    values = {"host": socket.gethostname().partition(".")[0], "ports": ports, "cores": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, **values))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    daemons = []
    for name in ("slurmctld", "slurmd"):
        with (folder / f"{name}.log").open("w") as log:
            daemons.append(subprocess.Popen([name, "-D"], env=os.environ | environment, stdout=log, stderr=log))
    for _ in range(300):
        sinfo = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=os.environ | environment, capture_output=True, text=True
        )
        if sinfo.stdout.strip() == "idle":
            break
        time.sleep(0.1)
    yield environment
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(30)


def batch(project, *command):
    """Submit a script, wait until the job has ended; return what it printed."""
    code, printed = project.run("sbatch", "--wait", "--output=job.log", *command)
    log = (project.folder / "job.log").read_text()
    assert code == 0, printed + log
    return log


@needs_slurm
def test_a_training_by_two_tasks_has_the_bytes_of_one_process(finished, slurm, tmp_path):
    cluster = install(finished.copy(tmp_path / "project"))
    cluster.set_param("train.shards", 4)
    cluster.environment |= slurm
    alone = cluster.copy(tmp_path / "alone")
    alone.environment["WORLD_SIZE"] = "1"
    alone.succeed("dvc", "repro")
    assert "Running stage 'train'" in batch(cluster, "--ntasks=2", "scale/train.sh")
    assert cluster.outputs() == alone.outputs()
    assert "didn't change, skipping" in batch(cluster, "--ntasks=2", "scale/train.sh")


def test_torchrun_starts_workers_for_several_trainings(finished, tmp_path):
    project = install(finished.copy(tmp_path / "project"))
    project.set_param("train.shards", 4)
    alone = project.copy(tmp_path / "alone")
    alone.environment["WORLD_SIZE"] = "1"
    project.environment["MASTER_KEY"] = "a secret"
    # Other launchers need not set LOCAL_RANK.
    torchrun = ["torchrun", "--nproc-per-node=2", "--no-python", "env", "--unset=LOCAL_RANK", "scale/worker.sh"]
    alone.set_param("train.seed", 2)
    alone.succeed("dvc", "repro")
    two = "dvc exp run --set-param train.seed=1 && dvc exp run --set-param train.seed=2"
    assert project.succeed(*torchrun, "bash", "-c", two).count("Running stage 'train'") == 2
    assert project.outputs() == alone.outputs()
    assert "didn't change, skipping" in project.succeed(*torchrun)


def test_a_worker_that_no_launcher_started_says_so(finished, tmp_path):
    project = install(finished.copy(tmp_path / "project"))
    printed = project.fail("scale/worker.sh")
    assert printed == "error: RANK is not set: start this with torchrun, srun or another launcher\n"


@needs_slurm
def test_a_sweep_has_a_result_for_each_job(shared, slurm):
    shared.environment |= slurm
    changes = ["model.fusion=concat", "train.lr=0.005 train.seed=1", "train.seed=1"]
    code, printed = shared.run(*("sbatch", "--wait", "--array=0-2", "--output=job-%a.log", "scale/sweep.sh"), *changes)
    logs = [path.read_text() for path in sorted(shared.folder.glob("job-*.log"))]
    assert code == 0, printed + "".join(logs)
    assert len(logs) == len(changes)
    for log in logs:
        assert "Running stage 'train'" in log
        assert "Running stage 'pair'" not in log  # its outputs are in the cache
    listed = shared.succeed("dvc", "exp", "list", "--name-only").split()
    assert sorted(listed) == [change.replace(" ", "-") for change in changes]
