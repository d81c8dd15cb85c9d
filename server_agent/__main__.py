from server_agent.cli import main

raise SystemExit(main())
