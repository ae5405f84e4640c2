#!/bin/bash
# What a pod does before it ends: Kubernetes sends SIGTERM, at which Envoy breaks off what is under way, when this has ended.
# Clients on kept connections are told to come by another one, the listener closes after Envoy's --drain-time-s, and then
# this waits for the last request. Its one argument is that time.
# The image has no program that speaks HTTP, but bash.
admin() {
    exec 3<>/dev/tcp/127.0.0.1/9901
    printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
    cat <&3
}
admin POST '/drain_listeners?graceful' >/dev/null
sleep "$1"
# By the name that `stat_prefix` in envoy.yaml gives it.
until admin GET '/stats?filter=http.openai.downstream_rq_active' | grep -q 'downstream_rq_active: 0'; do sleep 1; done
