from gsch.cli import entry

entry()
