"""`tintype run`: programs written for fal, in every client there is, end up here and nowhere else."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.javascript import node_here
from tests.support.processes import command as command_of
from tests.support.server import Server, without
from tintype.fal_proxy.certificates import CertificateAuthority
from tintype.installation import ServerInfo, is_serving

HERE = Path(__file__).parent
REAL_KEY = "11111111-2222-3333-4444-555555555555:a-real-key-of-somebody"


def tintype_run(data_dir: Path) -> list[str]:
    return [sys.executable, "-m", "tintype", "run", "--data-dir", str(data_dir), "--"]


def clean() -> dict[str, str]:
    return without("TINTYPE_", "FAL_")


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Stands for fal itself: its names, vouched for by another authority than ours. Nothing may be sent to it."""
    context = CertificateAuthority.open(tmp_path_factory.mktemp("elsewhere")).server_context()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                        assert not secure.recv(100)

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_every_python_client_is_turned_and_no_other_way_leads_to_fal(server: Server, impostor: int) -> None:
    command = [sys.executable, "-W", "ignore", str(HERE / "programs" / "clients.py"), REAL_KEY, str(impostor)]
    done = subprocess.run(
        [*tintype_run(server.data_dir), *command], env=clean(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "CERTIFICATE_VERIFY_FAILED" in seen.pop("another way to fal")
    assert "CERTIFICATE_VERIFY_FAILED" in seen.pop("another way to fal, of green threads")
    assert "CERTIFICATE_VERIFY_FAILED" in seen.pop("another way to fal, on uvloop")
    assert "tintype refused fal.run:80" in seen.pop("plain http")
    assert "tintype refused fal.run:8443" in seen.pop("another port")
    assert "realtime" in seen.pop("realtime")  # in the local server's words: the name and the token were turned
    assert seen.pop("status_url").startswith("https://queue.fal.run/fal-ai/flux-lora/requests/")
    assert seen.pop("upload") == "hello"
    assert seen.pop("fal_client") == seen.pop("fal_client, asynchronous") == 1
    assert len(seen) == 8
    assert set(seen.values()) == {"Bearer"}, seen


def test_node_is_turned_whatever_it_connects_with(server: Server, impostor: int) -> None:
    node = node_here()
    environment = clean() | {"REAL_KEY": REAL_KEY, "IMPOSTOR": str(impostor)}
    done = subprocess.run(
        [*tintype_run(server.data_dir), node, "turned.mjs"],
        cwd=HERE / "js", env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "certificate" in seen["another way to fal"], seen
    assert "tintype refused fal.run:80" in seen["plain http"]
    assert seen["upload"] == "Hello, World!"
    assert seen["token"] == "string"
    assert [seen[name] for name in ("subscribe", "stream", "https", "https, checks off")] == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def generated_by_curl(server: Server) -> str:
    """What curl printed when it ran fal's URL with a real key."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    body = json.dumps({"prompt": "a portrait", "num_inference_steps": 1, "seed": 4})
    command = [curl, "-sS", "--fail", "https://fal.run/fal-ai/flux-lora", "-H", f"Authorization: Key {REAL_KEY}",
               "-H", "Content-Type: application/json", "-H", "Expect: 100-continue", "-d", body]  # fmt: skip
    done = subprocess.run(
        [*tintype_run(server.data_dir), *command], env=clean(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_is_turned(generated_by_curl: str) -> None:
    assert json.loads(generated_by_curl)["seed"] == 4


def test_a_real_key_is_kept_nowhere(server: Server, generated_by_curl: str) -> None:
    """Runs after the tests above, which used one."""
    secret = REAL_KEY.partition(":")[2].encode()
    kept = [path for path in server.data_dir.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert kept == []


def test_everything_else_passes_untouched(server: Server, tmp_path: Path) -> None:
    """Another host, with a certificate that only this person's environment trusts."""
    theirs = CertificateAuthority.open(tmp_path)
    program = (
        "import http.server, ssl, threading, urllib.request, requests, sys\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1])\n"
        "class Hello(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(self.headers['Authorization'].encode())\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hello)\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "url, key = f'https://localhost:{server.server_port}/', {'Authorization': 'Key theirs'}\n"
        "print(requests.get(url, headers=key).text)\n"
        "print(urllib.request.urlopen(urllib.request.Request(url, headers=key)).read().decode())\n"
    )
    environment = clean() | {"SSL_CERT_FILE": str(theirs.certificate), "REQUESTS_CA_BUNDLE": str(theirs.certificate)}
    done = subprocess.run(
        [*tintype_run(server.data_dir), sys.executable, "-W", "ignore", "-c", program, str(theirs.host)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "Key theirs\nKey theirs\n", done.stderr


def test_streams_exit_status_and_arguments_are_the_programs_own(server: Server) -> None:
    program = (
        "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()); print(sys.argv[1:], file=sys.stderr); exit(7)"
    )
    data = bytes(range(256)) * 300
    command = [*tintype_run(server.data_dir), sys.executable, "-c", program, "--help", "-x", "--", "a b"]
    done = subprocess.run(command, env=clean(), input=data, capture_output=True, timeout=60, check=False)
    assert done.stdout == data
    assert done.stderr.decode() == "['--help', '-x', '--', 'a b']\n"
    assert done.returncode == 7


def test_what_a_program_writes_is_as_open_as_it_would_be_alone(server: Server) -> None:
    command = [*tintype_run(server.data_dir), sys.executable, "-c", "import os; print(os.umask(0))"]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=60, check=True, umask=0o027)
    assert int(done.stdout) == 0o027


def test_a_signal_reaches_the_program_and_ends_it_as_it_would_alone(server: Server) -> None:
    program = "import sys, time; print('ready', flush=True); time.sleep(600)"
    command = [*tintype_run(server.data_dir), sys.executable, "-c", program]
    with subprocess.Popen(command, env=clean(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize(("command", "status"), [("/no/such/program", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_started_is_named(server: Server, command: str, status: int) -> None:
    done = subprocess.run(
        [*tintype_run(server.data_dir), command], env=clean(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status
    assert command in done.stderr


def test_the_persons_own_sitecustomize_still_runs(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = 'ran'")
    program = "import sys, sitecustomize; print(sys.mine, sitecustomize.__file__)"
    command = [*tintype_run(server.data_dir), sys.executable, "-c", program]
    environment = clean() | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"ran {tmp_path / 'sitecustomize.py'}\n"


def test_pasted_variables_do_the_same(server: Server) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "tintype", "env", "--data-dir", str(server.data_dir)],
        env=clean(), capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    program = "import fal_client; print(fal_client.submit('fal-ai/flux-lora', {'prompt': 'x'}).status_url)"
    script = f'{printed}\nexec "$0" -c "$1"'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, program],
        env=clean(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("https://queue.fal.run/fal-ai/flux-lora/requests/"), done.stderr


def test_the_fal_proxy_may_be_killed(server: Server) -> None:
    children = psutil.Process(server.pid).children()
    proxy = next(child for child in children if "tintype.fal_proxy" in command_of(child))
    program = (
        "import sys, httpx\n"
        "for _ in range(2):\n"
        "    print(httpx.get('https://rest.fal.ai/health').status_code, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [*tintype_run(server.data_dir), sys.executable, "-c", program]
    with subprocess.Popen(command, env=clean(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"200\n"
        proxy.kill()
        assert process.communicate(b"\n\n", timeout=60)[0] == b"200\n"


def test_a_program_that_hangs_up_on_a_sync_run_cancels_it(server: Server, photos: Path) -> None:
    program = (
        "import sys, httpx, fal_client\n"
        "url = fal_client.upload_file(sys.argv[1])\n"
        "order = {'images_data_url': url, 'steps': 5000, 'seed': 77}\n"
        "try:\n"
        "    httpx.post('https://fal.run/fal-ai/flux-lora-portrait-trainer', json=order, timeout=1)\n"
        "except httpx.ReadTimeout:\n"
        "    print('hung up')\n"
    )
    command = [*tintype_run(server.data_dir), sys.executable, "-c", program, str(photos)]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "hung up\n", done.stderr
    command = [sys.executable, "-m", "tintype", "requests", "list", "--data-dir", str(server.data_dir)]
    deadline, newest = time.monotonic() + 60, ""
    while "cancelled" not in newest:
        assert time.monotonic() < deadline, newest
        listed = subprocess.run(command, env=clean(), capture_output=True, text=True, check=True).stdout
        newest = next(line for line in listed.splitlines() if "portrait-trainer" in line)


def test_a_server_is_started_where_none_runs_and_stops_after_the_last_program(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    environment = clean() | {"TINTYPE_FLUX_BASE": "miniature", "TINTYPE_PORT": "0"}
    program = "import sys, httpx; print(httpx.get('https://rest.fal.ai/health').json(), flush=True); sys.stdin.read()"
    command = [*tintype_run(data_dir), sys.executable, "-c", program]
    programs = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    for process in programs:
        assert process.stdout is not None
        assert process.stdout.readline() == b"{'status': 'ok'}\n"
    first, second = programs
    first.communicate(timeout=30)
    time.sleep(0.5)  # for a server that would wrongly stop
    assert ServerInfo.read(data_dir) is not None
    second.communicate(timeout=30)
    assert [process.returncode for process in programs] == [0, 0]
    deadline = time.monotonic() + 60
    while is_serving(data_dir):
        assert time.monotonic() < deadline, (data_dir / "logs" / "serve.log").read_text()
        time.sleep(0.05)
    assert "started again" not in (data_dir / "logs" / "serve.log").read_text()
