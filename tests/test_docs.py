from __future__ import annotations

import re
from pathlib import Path

import pytest
from falcon.testing import TestClient

from asgilook.cli.main import main
from asgilook.config import settings
from asgilook.validators import ENV_PREFIX

from .log_messages import PACKAGE, log_messages, pattern

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def readme() -> str:
    return (ROOT / 'README.md').read_text(encoding='utf-8')


def plain(cell: str) -> str:
    """Return a cell of a table without its backquotes."""
    return cell.strip().replace('`', '')


def test_readme_has_the_table_of_settings(readme: str) -> None:
    rows = [
        tuple(plain(cell) for cell in line.strip('|').split('|'))
        for line in readme.splitlines()
        if line.startswith(f'| `{ENV_PREFIX}')
    ]
    assert rows == [
        (
            ENV_PREFIX + field.name.upper(),
            plain(field.metadata['default']),
            plain(field.metadata['meaning']),
        )
        for field in settings()
    ]


@pytest.mark.parametrize(
    ('block', 'least'), [('REQUIREMENTS', 6), ('DATABASE', 3), ('REDIS', 1), ('S3', 1)]
)
def test_readme_names_the_dependencies(readme: str, block: str, least: int) -> None:
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    (required,) = re.findall(rf'^{block} = \[(.*?)\]\n', setup, re.DOTALL | re.M)
    names = re.findall(r"'([A-Za-z0-9-]+)", required)
    assert len(names) >= least
    assert [name for name in names if name.lower() not in readme.lower()] == []


@pytest.fixture(scope='module')
def deploy() -> str:
    return (ROOT / 'docs' / 'deploy.md').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def troubleshooting() -> str:
    return (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')


def test_troubleshooting_explains_every_warning_and_error(troubleshooting: str) -> None:
    section = troubleshooting.partition('\n## Warnings and errors')[2]
    lines = re.findall(r'^\| (`+)(.+?) ?\1 \|', section.partition('\n## ')[0], re.M)
    explained = [line for _, line in lines]
    messages = log_messages()
    assert len(messages) > 30
    for message in messages:
        assert any(re.fullmatch(pattern(message), each) for each in explained), message
    for line in explained:
        assert any(re.fullmatch(pattern(each), line) for each in messages), line


def test_troubleshooting_explains_every_alert(troubleshooting: str) -> None:
    rules = (ROOT / 'deploy/prometheus/asgilook.rules.yml').read_text(encoding='utf-8')
    alerts = re.findall(r'- alert: (\w+)', rules)
    assert rules.count('runbook: docs/troubleshooting.md#alerts') == len(alerts)
    assert re.findall(r'^\| `(Asgilook\w+)`', troubleshooting, re.M) == alerts


def test_package_has_no_other_logs() -> None:
    for path in PACKAGE.rglob('*.py'):
        code = path.read_text(encoding='utf-8')
        assert not re.search(r'\blogging\.(warning|error|exception|critical)\(', code)
        assert re.findall(r'^(\w+) = logging.getLogger', code, re.M) in ([], ['log'])


@pytest.mark.parametrize(
    'path', ['docs/deploy.md', 'deploy/asgilook.service', 'deploy/Dockerfile']
)
def test_deploy_names_settings_that_exist(path: str) -> None:
    names = set(re.findall(rf'{ENV_PREFIX}[A-Z_]+', (ROOT / path).read_text('utf-8')))
    assert f'{ENV_PREFIX}STORAGE_PATH' in names
    assert names <= {ENV_PREFIX + field.name.upper() for field in settings()}


def test_troubleshooting_shows_the_settings_of_the_unit(troubleshooting: str) -> None:
    unit = (ROOT / 'deploy/asgilook.service').read_text('utf-8')
    (command,) = re.findall(
        r'env (.*) /opt/asgilook/bin/asgilook config', troubleshooting
    )
    own = re.findall(r'^Environment=(.*)$', unit, re.M)
    (file,) = re.findall(r'^EnvironmentFile=-(.*)$', unit, re.M)
    assert command == ' '.join([*own, f'$(cat {file})'])


def test_read_only_containers_have_a_temporary_folder() -> None:
    compose = (ROOT / 'deploy/compose.yaml').read_text('utf-8')
    services = re.findall(r'^  (\w+):\n((?:    .*\n)+)', compose, re.M)
    read_only = {name: text for name, text in services if 'read_only: true' in text}
    assert read_only.keys() == {'asgilook', 'redis'}
    assert [
        name for name, text in read_only.items() if '    tmpfs: /' not in text
    ] == []


def test_deploy_names_metrics_that_exist(deploy: str, client: TestClient) -> None:
    names = set(re.findall(r'^\| `(asgilook_[a-z_]+)`', deploy, re.MULTILINE))
    assert len(names) >= 5
    metrics = client.simulate_get('/metrics').text
    assert {name for name in names if f'# HELP {name} ' not in metrics} == set()


PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')]
)


@pytest.mark.parametrize('page', PAGES)
def test_page_names_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding='utf-8')
    links = re.findall(r'\]\(([^)#:]+)\)', text)
    folder = (ROOT / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize('page', PAGES)
def test_page_names_settings_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding='utf-8')
    names = set(re.findall(rf'{ENV_PREFIX}[A-Z_]+', text))
    assert names <= {ENV_PREFIX + field.name.upper() for field in settings()}


def test_readme_has_the_commands_of_the_command_line(
    readme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(['--help'])
    commands = re.findall(r'^    (\w+)(?: {2,}|$)', capsys.readouterr().out, re.M)
    assert re.findall(r'^    asgilook (\w+) ', readme, re.M) == commands


def test_docs_name_options_of_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = '\n'.join((ROOT / page).read_text('utf-8') for page in PAGES)
    lines = re.findall(r'asgilook (serve|healthcheck|import|check)( .*)', text)
    assert len(lines) >= 12
    for command, rest in lines:
        with pytest.raises(SystemExit):
            main([command, '--help'])
        known = capsys.readouterr().out
        options = re.findall(r'(?<=[ `])--[a-z-]+', rest)
        assert [option for option in options if option not in known] == []
