"""The child of a fork stops the LocalAlgolia of its parent, which goes on."""

import http.client
import os
import warnings

from algolia_usertoken.testing import LocalAlgolia

warnings.simplefilter("ignore", DeprecationWarning)
algolia = LocalAlgolia().start()
child = os.fork()
if child == 0:
    algolia.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
connection = http.client.HTTPConnection(algolia.host, algolia.port, timeout=120)
connection.request("GET", "/")
assert connection.getresponse().status == 200
connection.close()
algolia.stop()
