from gsch.cli import main

main()
