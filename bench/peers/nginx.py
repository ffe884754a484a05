"""nginx: with nchan as a peer, and as the application that pushpin asks what a request is to follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.peers.servers import Place, Server, running
from shared.embedded import free_port

NGINX = "/usr/sbin/nginx"
NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"
#: One worker, as there is one core; no log.
_CONFIGURATION = """
{modules}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log {folder}/nginx.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 16000; use epoll; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; client_body_buffer_size 16k;
  {http}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {locations}
  }}
}}
"""
#: Messages are kept for nobody, which spares nchan its buffers.
_LOCATIONS = """
    location ~ ^/sub/(\\w+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval 30; {more}
    }}
    location ~ ^/pub/(\\w+)$ {{
      nchan_publisher; nchan_channel_id $1; nchan_store_messages off; {more}
    }}
"""
#: What a request is to follow, in the words of pushpin's protocol (GRIP): the channel of its path.
_HELD = """
    location ~ ^/(\\w+)$ {
      default_type text/event-stream; add_header Grip-Hold stream; add_header Grip-Channel $1;
      return 200 "event: connected\\n\\n";
    }
"""
#: How nchan may use Redis: messages stored there, for all servers and for subscribers that come back (its default), or
#: handed on to all servers by pub/sub alone, without exact counts of subscribers in the answers ("fastpublish").
STORED = "nchan_redis_storage_mode distributed;"
PASSED = "nchan_redis_storage_mode nostore; nchan_redis_nostore_fastpublish on;"


@contextmanager
def _nginx(place: Place, name: str, locations: str, http: str = "", modules: str = "") -> Iterator[Server]:
    port, folder = free_port(), place.folder / name
    folder.mkdir(exist_ok=True)
    # nginx's worker is another user.
    place.folder.chmod(0o755)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(modules=modules, folder=folder, port=port, http=http, locations=locations)
    )
    with running(place, port, [NGINX, "-c", configuration, "-p", folder]) as server:
        yield server


def _nchan(place: Place, name: str, redis: str) -> AbstractContextManager[Server]:
    upstream = f"upstream redis {{ nchan_redis_server {place.redis.url()}; {redis} }}" if redis else ""
    locations = _LOCATIONS.format(more="nchan_redis_pass redis;" if redis else "")
    return _nginx(place, name, locations, f"nchan_shared_memory_size 512m; {upstream}", f"load_module {NCHAN};")


def nchan(redis: str = "") -> Callable[[Place], AbstractContextManager[Server]]:
    """Return what starts nginx with nchan: on its own, or using Redis in one of its ways."""
    return lambda place: _nchan(place, "nchan", redis)


def nchan_apart(redis: str) -> Callable[[Place], AbstractContextManager[Server]]:
    """Return what starts nginx with nchan, and another one on the other core that is published to."""

    @contextmanager
    def start(place: Place) -> Iterator[Server]:
        with (
            _nchan(place.beside, "publisher", redis) as publisher,
            _nchan(place, "nchan", redis) as server,
        ):
            yield Server(server.port, server.process, publisher.port)

    return start


def grip(place: Place) -> AbstractContextManager[Server]:
    """Start what tells pushpin that a request is a stream of its path's channel, on the other core."""
    return _nginx(place.beside, "grip", _HELD)
