"""StormCom: the order exports of a shop. What runs is `jobs.demo`; see README.md."""
