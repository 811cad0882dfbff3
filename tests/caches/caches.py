"""Apache, nginx and Varnish as they come from Debian, with their own defaults; and the applications behind them."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import serving
from ports import free_port

AIOHTTP_APP = "app_aiohttp:make_app"
APACHE_MODULES = pathlib.Path("/usr/lib/apache2/modules")

APPLICATIONS: dict[str, Callable[[int], list[str]]] = {
    "ASGI": lambda port: serving.uvicorn("app_asgi:app", port),
    "WSGI": lambda port: serving.gunicorn("app_wsgi:app", port, "--threads", "4"),
    "Flask": lambda port: serving.gunicorn("app_flask:app", port, "--threads", "4"),
    "Django": lambda port: serving.gunicorn("app_django:app", port, "--threads", "4"),
    "aiohttp": lambda port: [sys.executable, "-m", "aiohttp.web", *("-H", "127.0.0.1", "-P", str(port)), AIOHTTP_APP],
}


@contextmanager
def cache(name: str, behind: int) -> Iterator[int]:
    """A cache in front of the application on port `behind`; gives the cache's own port."""
    port = free_port()
    # Servers that are started by root work as somebody else, who may not look into pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="cache-") as path:
        folder = pathlib.Path(path)
        folder.chmod(0o755)
        (folder / "kept").mkdir()
        (folder / "kept").chmod(0o777)
        with serving.running(CACHES[name](folder, port, behind), port, folder / "log"):
            yield port


def apache(folder: pathlib.Path, port: int, behind: int) -> list[str]:
    modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "cache", "cache_disk"]
    as_nobody = ["User #65534", "Group #65534"] if os.geteuid() == 0 else []
    configuration = folder / "httpd.conf"
    configuration.write_text(
        "\n".join(
            [
                *(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in modules),
                *as_nobody,
                f'ServerRoot "{folder}"',
                f'DefaultRuntimeDir "{folder}"',
                f'PidFile "{folder}/pid"',
                f'ErrorLog "{folder}/errors"',
                "ServerName localhost",
                f"Listen 127.0.0.1:{port}",
                f'CacheRoot "{folder}/kept"',
                'CacheEnable disk "/"',
                f'ProxyPass "/" "http://127.0.0.1:{behind}/"',
            ]
        ),
        encoding="utf-8",
    )
    return [program("apache2"), "-D", "FOREGROUND", "-f", str(configuration)]


def nginx(folder: pathlib.Path, port: int, behind: int, more: str = "") -> list[str]:
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off;
        {"user nobody nogroup;" if os.geteuid() == 0 else ""}
        pid {folder}/pid;
        error_log {folder}/errors;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/kept/bodies;
            proxy_temp_path {folder}/kept/proxied;
            fastcgi_temp_path {folder}/kept/fastcgi;
            uwsgi_temp_path {folder}/kept/uwsgi;
            scgi_temp_path {folder}/kept/scgi;
            proxy_cache_path {folder}/kept/cache keys_zone=pages:1m;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://127.0.0.1:{behind};
                    proxy_cache pages;
                    {more}
                }}
            }}
        }}
        """,
        encoding="utf-8",
    )
    return [program("nginx"), "-p", str(folder), "-e", f"{folder}/errors", "-c", str(configuration)]


def nginx_that_keeps_all(folder: pathlib.Path, port: int, behind: int) -> list[str]:
    """As RFC 9111 allows: a cookie does not keep it from storing a page, and one of which nothing is said is fresh."""
    return nginx(folder, port, behind, "proxy_ignore_headers Set-Cookie; proxy_cache_valid any 1m;")


def varnish(folder: pathlib.Path, port: int, behind: int) -> list[str]:
    where = ["-n", f"{folder}/varnish", "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{behind}", "-T", "none"]
    return [program("varnishd"), "-F", "-j", "none", "-s", "malloc,16m", *where]


CACHES: dict[str, Callable[[pathlib.Path, int, int], list[str]]] = {
    "Apache": apache,
    "nginx": nginx,
    "nginx that keeps all": nginx_that_keeps_all,
    "Varnish": varnish,
}


def program(name: str) -> str:
    """The path of a server; Debian keeps them where not everybody looks."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    if found is None:
        pytest.fail(f"there is no {name}; Debian has it as a package, and nox -s caches installs it", pytrace=False)
    return found
