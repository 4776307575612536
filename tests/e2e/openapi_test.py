"""The server does what its OpenAPI document says, and nothing else."""

import os
import subprocess
import sys

from harness import PATIENCE, Case, main


class OpenApi(Case):
    def test_server_keeps_to_its_document(self):
        with self.server() as server:
            check = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openapi_check.py")
            done = subprocess.run(
                [sys.executable, check, server.url, "-v", "--operator-token-file",
                 server.path("operator-token"), "--shop-token-file", server.path("shop-token")],
                capture_output=True, text=True, timeout=5 * PATIENCE, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            print(done.stdout[done.stdout.rindex(" operations") - 3:])


if __name__ == "__main__":
    main()
