#!/bin/bash
# component.sh kill|start|restart NAME: NAME is etcd, apiserver, controller-manager, scheduler or node-N (its pod-runner).
# component.sh relist node-N: its pod-runner lists its pods anew, as a kubelet does when it is restarted.
set -eu
action=$1 name=$2
# Whether the last thread of a process has ended: only then are its ports free for another.
ended() {
	local status=/proc/$1/status
	[ ! -e "$status" ] || { grep -qs '^State:.Z' "$status" && grep -qs '^Threads:.[01]$' "$status"; }
}
pid=$RIG/components/$name.pid
if [ "$action" = kill ] || [ "$action" = restart ]; then
	killed=$(cat "$pid")
	kill -9 "$killed"
	for _ in {1..500}; do
		if ended "$killed"; then break; fi
		sleep 0.02
	done
fi
if [ "$action" = relist ]; then
	kill -HUP "$(cat "$pid")"
fi
if [ "$action" = start ] || [ "$action" = restart ]; then
	mapfile -d '' command <"$RIG/components/$name"
	"${command[@]}" >>"$RIG/log/$name.log" 2>&1 </dev/null &
	echo $! >"$pid"
fi
