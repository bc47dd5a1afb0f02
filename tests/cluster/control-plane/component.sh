#!/bin/bash
# component.sh kill|start|restart NAME: NAME is etcd, apiserver, controller-manager, scheduler or node-N (its pod-runner).
set -eu
action=$1 name=$2
pid=$RIG/components/$name.pid
if [ "$action" = kill ] || [ "$action" = restart ]; then
	kill -9 "$(cat "$pid")"
fi
if [ "$action" = start ] || [ "$action" = restart ]; then
	mapfile -d '' command <"$RIG/components/$name"
	"${command[@]}" >>"$RIG/log/$name.log" 2>&1 </dev/null &
	echo $! >"$pid"
fi
