#!/usr/bin/env python3
"""Kafka's command-line tools on groups (kafka_tools.sh), on a fresh broker.

    tools.py --binary PATH          Yagura
    tools.py --kafka-libs JARS      Apache Kafka: proves the script
"""

import argparse
import os
import subprocess
import sys
import tempfile

import setting
from members import HERE, TOOLS


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary")
    arguments.add_argument("--kafka-libs")
    options = arguments.parse_args()
    env = os.environ | {"KAFKA_LIBS": str(TOOLS / "java/libs")}
    with tempfile.TemporaryDirectory() as folder:
        if options.kafka_libs:
            with setting.kafka(options.kafka_libs, folder) as broker:
                return subprocess.call([HERE / "kafka_tools.sh", broker.bootstrap], env=env)
        with setting.yagura(options.binary, folder) as broker:
            return subprocess.call([HERE / "kafka_tools.sh", broker.address], env=env)


if __name__ == "__main__":
    sys.exit(main())
