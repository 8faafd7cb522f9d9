from vqcli.cli.main import main

main()
