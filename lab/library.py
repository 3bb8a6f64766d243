"""Where topologies and scenarios lie: a name or a path -> the file.

Performs I/O.
"""

from __future__ import annotations

from pathlib import Path

from lab.scenario import Scenario, parse_scenario
from lab.topology import Topology, base_of, parse_topology
from runtime.settings import ConfigError

_HERE = Path(__file__).parent
SCENARIOS = Path("examples/scenarios")


class NotFound(Exception):
    """No file of that name; the message says where it was looked for and what there is."""


def scenario_files() -> dict[str, Path]:
    """The scenarios that can be played by name: those of this directory first, then those beside us."""
    found: dict[str, Path] = {}
    for directory in (Path.cwd() / SCENARIOS, _HERE.parent / SCENARIOS):
        for path in sorted(directory.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def load_scenario(name: str) -> tuple[Scenario, Topology, Path]:
    """A scenario by name or path, the topology it plays in, and its file."""
    path = Path(name)
    if path.suffix != ".toml":
        known = scenario_files()
        if name not in known:
            names = ", ".join(known) or "none"
            raise NotFound(f"no scenario {name} (known: {names}; or give a path ending in .toml)")
        path = known[name]
    text = _read(path)
    scenario = parse_scenario(text, _shown(path))
    topology = load_topology(scenario.topology, path.parent)
    return scenario, scenario.checked(topology, text, _shown(path)), path


def load_topology(name: str, beside: Path = Path()) -> Topology:
    """A topology by name (they lie in the lab package) or by path, relative to the scenario's directory."""
    path = beside / name if name.endswith(".toml") else _HERE / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in _HERE.glob("*.toml")))
        raise NotFound(f"no topology {name} (known: {known}; or give a path ending in .toml)")
    text = _read(path)
    base = base_of(text)
    extended = None if base is None else load_topology(base, path.parent)
    return parse_topology(text, _shown(path), extended)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise NotFound(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None


def _shown(path: Path) -> str:
    """As a person would write it: relative where it lies below the current directory."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)
