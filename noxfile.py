"""What is checked, one session each. All tests on all versions: `nox -s tests algoliasearch`."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "typing", "docs", "package"]
nox.options.error_on_missing_interpreters = False  # a Python that is not installed here is skipped

PYPROJECT = nox.project.load_toml("pyproject.toml")

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
# What runs on one of them is left out nowhere: it takes what there is, or the Python that nox runs on.
INSTALLED: list[str | None] = [version for version in PYTHONS if shutil.which(f"python{version}")] or [None]


def install(session: nox.Session, *groups: str) -> None:
    """Install the package, editable, together with dependency groups."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, on each Python that is found."""
    install(session, "tests")
    session.run("python", "-m", "pytest", "-n", "4", *session.posargs)


@nox.session
@nox.parametrize("version", ["4.40.0", "4.45.0", "4.47.0", "newest"])
def algoliasearch(session: nox.Session, version: str) -> None:
    """All tests, on each algoliasearch that is promised to work."""
    install(session, "tests")
    session.install("--upgrade", "algoliasearch>=4.40,<5" if version == "newest" else f"algoliasearch=={version}")
    session.run("python", "-m", "pytest", "-n", "4", *session.posargs)


@nox.session(python=INSTALLED[0])
def oldest(session: nox.Session) -> None:
    """What the versions of Python, algoliasearch and Django matter to most, on the oldest of them."""
    install(session, "tests")
    session.install("algoliasearch==4.40.0", "django==4.2.*", "django-csp<4")
    session.run("python", "-m", "pytest", "-n", "4", "-q", "-m", "oldest_versions")


@nox.session(python=INSTALLED[-1])
def coverage(session: nox.Session) -> None:
    """Which lines and branches of the package the tests miss: none that is not explained in place."""
    install(session, "tests")
    session.run("coverage", "erase")
    chosen = session.posargs or ["-m", "not adds_no_coverage"]
    session.run("coverage", "run", "-m", "pytest", "-n", "4", *chosen)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def mutants(session: nox.Session) -> None:
    """How many small mistakes the tests notice, where identity is decided: each module at least 90 %.

    Patterns of mutmut's, as `"algolia_usertoken.context*"`, try the mutants of some modules only.
    """
    install(session, "mutants")
    shutil.rmtree("mutants", ignore_errors=True)  # after a run that failed, mutmut would go on with the few it had made
    session.run("mutmut", "run", "--max-children", str(os.cpu_count() or 2), *session.posargs, silent=True)
    results = str(session.run("mutmut", "results", "--all", "true", silent=True))
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in results.splitlines():
        name, _, status = line.strip().rpartition(": ")
        if name.startswith("algolia_usertoken."):
            found[name.partition(".x")[0]][status] += 1
    low = []
    for path in PYPROJECT["tool"]["mutmut"]["only_mutate"]:
        module = path.removesuffix(".py").replace("/", ".")
        if session.posargs and f"{module}*" not in session.posargs:
            continue
        counts = found[module]
        total = counts.total() - counts["not checked"]
        noticed = counts["killed"] + counts["timeout"] + counts["caught by type check"]
        score = 100 * noticed / max(total, 1)
        session.log(f"{module}: {noticed} of {total} noticed, {score:.1f} %")
        if score < 90:
            low.append(module)
    if low:
        session.error(f"too few are noticed in {', '.join(low)}; `mutmut browse` shows which")


@nox.session
def linkcheck(session: nox.Session) -> None:
    """Whether what the documentation links to is there. Needs a network."""
    install(session, "docs")
    session.run("sphinx-build", "-q", "-b", "linkcheck", "docs", "docs/_build/linkcheck")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, with ruff."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """The package under mypy's strict mode, and its public API as a user's type checker sees it."""
    install(session, "typing")
    session.run("mypy")
    if pathlib.Path("tests/typing").is_dir():
        session.run("mypy", "tests/typing")
        session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with every warning an error."""
    if not pathlib.Path("docs/conf.py").exists():
        session.skip("there is no docs/conf.py")
    install(session, "docs")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """The sdist, and the wheel built from it, in a fresh environment: its own tests, with the source away."""
    session.install("build", *nox.project.dependency_groups(PYPROJECT, "tests"))
    dist = pathlib.Path(session.create_tmp(), "dist").resolve()
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    shutil.unpack_archive(sdist, dist)
    source = dist / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(source / "algolia_usertoken")
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install("algolia-usertoken")  # what it depends on
    session.chdir(source)
    session.run("python", "-m", "pytest", "-n", "4", "-q", "-m", "package_contents")
    session.run("python", "-c", "from algolia_usertoken import *")
    session.run("python", "-c", "from importlib.resources import files; open(files('algolia_usertoken') / 'py.typed')")
    session.run("algolia-usertoken", "--version")
    session.run("algolia-usertoken", "demo")


@nox.session
def browser(session: nox.Session) -> None:
    """The pages in real Chromium, with the packages that Algolia publishes for them on npm.

    With NPM_NEWEST=1 it takes the newest of each, in place of the release that tests/browser/package.json names.
    """
    install_debian(session, {"chromium": "chromium", "chromedriver": "chromium-driver"}, "fonts-dejavu-core")
    install(session, "browser")
    packages = pathlib.Path(session.create_tmp(), "npm").resolve()
    packages.mkdir(exist_ok=True)
    named = pathlib.Path(shutil.copy("tests/browser/package.json", packages))
    newest = [f"{name}@latest" for name in json.loads(named.read_text(encoding="utf-8"))["dependencies"]]
    session.run(
        *("npm", "install", "--prefix", str(packages), "--ignore-scripts", "--no-package-lock"),
        *("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"),
        *(newest if os.environ.get("NPM_NEWEST") else ()),
        external=True,
    )
    session.run(
        *("python", "-m", "pytest", *(session.posargs or ["tests/browser", "-n", "2"])),
        env={"SHOP_NPM": str(packages / "node_modules")},
    )


@nox.session
def caches(session: nox.Session) -> None:
    """Visitors behind Apache, nginx and Varnish, in front of each framework: none is handed another's token."""
    install_debian(session, {"apache2": "apache2-bin", "nginx": "nginx", "varnishd": "varnish"})
    install(session, "tests")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/caches", "-n", "4", "-q"]))


def install_debian(session: nox.Session, packages: dict[str, str], *more: str) -> None:
    """The packages of Debian, by the program that each brings, where one is missing and this is root on a Debian."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    missing = [program for program in packages if not shutil.which(program, path=path)]
    if not missing:
        return
    names = [*packages.values(), *more]
    if not shutil.which("apt-get") or os.geteuid() != 0:
        session.error(f"there is no {', no '.join(missing)}; Debian: apt-get install {' '.join(names)}")
    quiet = {"external": True, "silent": True, "env": {"DEBIAN_FRONTEND": "noninteractive"}}
    session.run("apt-get", "update", **quiet)
    # A server that Debian has installed would start at once, open to everybody, unless this program says no.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    is_new = not policy.exists()
    if is_new:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        session.run("apt-get", "install", "--yes", "--no-install-recommends", *names, **quiet)
    finally:
        if is_new:
            policy.unlink()


@nox.session
def benchmarks(session: nox.Session) -> None:
    """What a call costs, as ratios within one run."""
    install(session, "benchmarks")
    for script in sorted(pathlib.Path("tests/benchmarks").glob("bench_*.py")):
        session.run("python", str(script), *session.posargs)
