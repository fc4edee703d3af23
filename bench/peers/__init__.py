"""The proxies that are compared: one file each, one entry each in PEERS.

A peer turns what a contest asks for (`Features`) into its own configuration, by the means its users would take, and
says which contests it cannot enter. All get the same: one worker, one processor, generous pools, no access log unless
the contest is about it; all write `x-forwarded-for`.
"""

from peers import envoy, floor, haproxy, nginx, tidegate

#: In the order of the tables.
PEERS = {
    "tidegate": tidegate,
    "envoy": envoy,
    "nginx": nginx,
    "haproxy": haproxy,
    "floor": floor,
}
