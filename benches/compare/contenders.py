"""What stands in the middle: HAProxy, nginx or weir, each as its package brings it, or nothing at all."""

import json
import os
import re
import subprocess
import urllib.request

import machine
from children import answers, free_port
from machine import Trouble

STREAM_MODULES = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
)

HAPROXY = """\
global
  nbthread 1
  maxconn 4000
{tune}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend gateways
  bind 127.0.0.1:{port}{bind}
  default_backend sinks
backend sinks
  server sink 127.0.0.1:{sink}{server}
"""

NGINX = """\
{module}
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
stream {{
  server {{
    listen 127.0.0.1:{port}{listen};
    proxy_pass 127.0.0.1:{sink};
    {tls}
  }}
}}
"""


class Sink:
    """`weir-lab sink`, a stand-in Traffic Manager."""

    def __init__(self, child, data, tls, pin):
        self.child, self.data, self.tls, self.pin = child, data, tls, pin

    @staticmethod
    def start(bench, children, index, cell, stalled, apart):
        command = [bench.lab, "sink", "--listen", "127.0.0.1:0", "--auth-listen", "127.0.0.1:0"]
        command += ["--connections", "20000", "--report", "json"]
        if cell.frame_cost_us:
            command += ["--frame-cost", f"{cell.frame_cost_us}us"]
        if cell.rate:
            command += ["--delivery-times"]
        if stalled:
            command += ["--stall"]
        child = children.start(f"sink{index + 1}", command, bench.cores.sinks(index, cell.own_cores, apart))
        said = child.until("its ports are open", lambda: re.search(r"listening on \S+ \(TLS\)", child.errors()) and child.errors())
        ports = re.findall(r"listening on 127\.0\.0\.1:(\d+)", said)
        pin = re.search(r'pins = \["([0-9a-f]{64})"\]', said)
        if len(ports) != 2 or pin is None:
            raise Trouble(f"sink: its ports or its certificate were not found in: {child.words()}")
        return Sink(child, int(ports[0]), int(ports[1]), pin.group(1))

    def report(self):
        """Ends it and reads what it counted."""
        self.child.stop(10)
        try:
            return json.loads(self.child.output())
        except ValueError:
            raise Trouble(f"sink: no report; {self.child.words()}") from None


class Middle:
    """The process in the middle, and where gateways connect. `child` is None for direct."""

    def __init__(self, child, port, admin=None):
        self.child, self.port, self.admin = child, port, admin

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status", timeout=10) as answer:
            return json.load(answer)


def missing(contender):
    """Why somebody cannot take part here; None when they can."""
    if contender.kind == "haproxy" and machine.find("haproxy") is None:
        return "haproxy is not installed (Debian: apt install haproxy)"
    if contender.kind == "nginx":
        if machine.find("nginx") is None:
            return "nginx is not installed (Debian: apt install nginx libnginx-mod-stream)"
        if stream_module() is None:
            return "nginx has no stream module (Debian: apt install libnginx-mod-stream)"
    if contender.tls and contender.kind in ("haproxy", "nginx", "weir") and machine.find("openssl") is None:
        return "openssl is not installed, and the certificate is made with it"
    return None


def stream_module():
    """The line that loads it; empty where it is built in, None where there is none."""
    built = subprocess.run([machine.find("nginx"), "-V"], capture_output=True, text=True, check=False).stderr
    if re.search(r"--with-stream(?!\S)", built):
        return ""
    found = next((path for path in STREAM_MODULES if os.path.exists(path)), None)
    return f"load_module {found};" if found else None


def certificate(folder):
    """Makes a key and a certificate, once; returns their files, and one with both."""
    key, leaf, both = (os.path.join(folder, name) for name in ("key.pem", "leaf.pem", "both.pem"))
    if not os.path.exists(both):
        command = [machine.find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", key, "-out", leaf]
        made = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if made.returncode != 0:
            raise Trouble(f"openssl makes no certificate: {made.stderr.strip()}")
        with open(both, "w", encoding="utf-8") as file:
            file.write(machine.read(leaf) + machine.read(key))
    return key, leaf, both


def start(bench, children, cell, contender, sinks):
    """Starts it and waits until it passes events on."""
    sink = sinks[0].tls if contender.tls else sinks[0].data
    if contender.kind == "direct":
        return Middle(None, sink)
    if contender.kind == "haproxy":
        return proxy(bench, children, "haproxy", haproxy_files(bench, children, contender, sink))
    if contender.kind == "nginx":
        return proxy(bench, children, "nginx", nginx_files(bench, children, contender, sink))
    return start_weir(bench, children, cell, contender, sinks)


def proxy(bench, children, name, made):
    command, port = made
    child = children.start(name, command, bench.cores.middle)
    child.until(f"port {port} answers", lambda: answers(port))
    return Middle(child, port)


def haproxy_files(bench, children, contender, sink):
    port, path = free_port(), os.path.join(children.folder, "haproxy.cfg")
    tls = contender.tls
    text = HAPROXY.format(
        port=port,
        sink=sink,
        tune=f"  tune.bufsize {contender.buffer_bytes}" if contender.buffer_bytes else "",
        bind=f" ssl crt {certificate(bench.scratch)[2]}" if tls else "",
        server=" ssl verify none" if tls else "",
    )
    write(path, text)
    return [machine.find("haproxy"), "-db", "-f", path], port


def nginx_files(bench, children, contender, sink):
    port, path, tls = free_port(), os.path.join(children.folder, "nginx.conf"), ""
    if contender.tls:
        key, leaf, _ = certificate(bench.scratch)
        tls = f"ssl_certificate {leaf}; ssl_certificate_key {key}; proxy_ssl on;"
    text = NGINX.format(module=stream_module(), folder=children.folder, port=port, sink=sink, tls=tls,
                        listen=" ssl" if contender.tls else "")
    write(path, text)
    return [machine.find("nginx"), "-e", "stderr", "-p", children.folder, "-c", path], port


def weir_toml(bench, cell, contender, sinks):
    """The configuration: defaults, but for what the cell and the contender are about."""
    tls = contender.tls
    lines = [f"workers = {contender.workers}", 'drain_notice = "0s"']
    if contender.ack:
        lines.append(f'ack = "{contender.ack}"')
    lines += ["[listen]", 'tcp = "127.0.0.1:0"', 'tls = "127.0.0.1:0"' if tls else 'tls = "off"']
    if contender.idle:
        lines.append(f"max_connections = {cell.idle_connections + 2000}")
    lines += ["[auth]", "allow_plaintext_login = true", "[admin]", 'listen = "127.0.0.1:0"']
    lines += ["[queue]", f'max_bytes = "{cell.queue_mib}MiB"']
    if contender.linger is not None:
        lines += ["[link]", f'linger = "{contender.linger}"' if contender.linger != "0" else "linger = 0"]
    if tls:
        key, leaf, _ = certificate(bench.scratch)
        pins = ", ".join(f'"{sink.pin}"' for sink in sinks)
        lines += ["[tls]", f'certificate = "{leaf}"', f'key = "{key}"', 'verify = "pin"', f"pins = [{pins}]"]
    lines += ["[apim.throttling]", 'username = "admin"', 'password = "admin"']
    urls = [f"ssl://127.0.0.1:{sink.tls}" if tls else f"tcp://127.0.0.1:{sink.data}" for sink in sinks]
    if contender.trouble == "dead":
        urls.append(f"tcp://127.0.0.1:{free_port()}")
    for url in urls:
        lines += ["[[apim.throttling.url_group]]", f'traffic_manager_urls = ["{url}"]',
                  f'traffic_manager_auth_urls = ["{url}"]']
    return "\n".join(lines) + "\n"


def start_weir(bench, children, cell, contender, sinks):
    path = os.path.join(children.folder, "weir.toml")
    write(path, weir_toml(bench, cell, contender, sinks))
    cores = bench.cores.middle_pair if contender.workers > 1 else bench.cores.middle
    child = children.start("weir", [bench.weir, "run", "--config", path], cores, {"WEIR_LOG_FORMAT": "json"})

    def ready():
        for line in child.errors().splitlines():
            if "weir is ready" in line:
                return json.loads(line)
        return None

    said = child.until("weir is ready", ready)
    said = said.get("fields", said)
    port = int((said["tls"] if contender.tls else said["tcp"]).rpartition(":")[2])
    middle = Middle(child, port, int(said["admin"].rpartition(":")[2]))
    child.until("every link is up", lambda: links_up(middle, len(sinks), contender.workers))
    return middle


def links_up(middle, groups, workers):
    found = [sum(e["links_up"] for e in group["endpoints"]) for group in middle.status()["groups"]]
    return sum(1 for links in found if links >= workers) >= groups


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
