"""One lock around parallel numba kernels.

numba's fallback thread pool ("workqueue", used where neither TBB nor OpenMP is found) ends the process when two threads
start parallel kernels at once, and the plugin runs jobs in threads. Each kernel uses all cores anyway.
"""

from __future__ import annotations

import threading

ONE_AT_A_TIME = threading.RLock()
