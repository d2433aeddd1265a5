#!/bin/sh
# A deploy script as companies have them. OUTCOME: succeeds, fails (exit 3), or hangs until it is killed.
set -u
echo "deploying ${1:?usage: demo_deploy.sh OUTCOME [PIDFILE]}: unpacking"
echo "waiting for 3 of 3 instances"
case "$1" in
    succeeds)
        echo "3 of 3 instances are ready"
        ;;
    fails)
        echo "instance 2 is not ready: readiness probe failed" >&2
        exit 3
        ;;
    hangs)
        # exec: the process that is killed is the one that deploytrail runs
        echo $$ >"$2.part" && mv "$2.part" "$2"
        exec sleep 300
        ;;
    *)
        echo "unknown outcome $1" >&2
        exit 64
        ;;
esac
