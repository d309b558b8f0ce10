#!/bin/bash
# What mpirun starts its daemon with on "another machine": agent.sh ADDRESS COMMAND…, in the namespace that has this address, with a host name of its own.
[ "$1" = 10.77.0.2 ] || { echo "agent.sh: no namespace has the address $1" >&2; exit 1; }
shift
exec ip netns exec "$LINK_NAMESPACE" unshare --uts bash -c "hostname machine-2; $*"
