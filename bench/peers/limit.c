/* The limit: Server-Sent Events from Redis to sockets with nothing in between. One thread, epoll, one send for each frame.
 *
 * limit PORT REDIS_PORT REDIS_PASSWORD: `GET /<channel>` follows a Redis channel, whose messages are whole frames. No
 * authentication, no order, no bounds, no metrics: what a server that has them is compared with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 32768, BUCKETS = 65536, NAME = 128, READ = 1 << 20, EVENTS = 512 };

typedef struct Channel {
    char name[NAME];
    size_t length;
    int *fds, count, room;
    struct Channel *next;
} Channel;

typedef struct {
    Channel *channel;
    char *waiting; /* What the socket did not take yet. */
    size_t size;
} Stream;

static Channel *buckets[BUCKETS];
static Stream streams[MAX_FDS];
static int poll_fd, redis_fd;
static char in[4 * READ];
static size_t held;

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                           "Connection: close\r\n\r\n";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll_fd, operation, fd, &event)) die("epoll_ctl");
}

static Channel *channel_of(const char *name, size_t length, int make) {
    unsigned hash = 2166136261u; /* FNV-1a */
    for (size_t at = 0; at < length; at++) hash = (hash ^ (unsigned char)name[at]) * 16777619u;
    Channel **slot = &buckets[hash % BUCKETS];
    for (Channel *each = *slot; each; each = each->next)
        if (each->length == length && !memcmp(each->name, name, length)) return each;
    if (!make) return NULL;
    Channel *made = calloc(1, sizeof *made);
    memcpy(made->name, name, length);
    made->length = length;
    made->next = *slot;
    return *slot = made;
}

static void tell_redis(const char *verb, const char *what, size_t length) {
    char command[512];
    int size = snprintf(command, sizeof command, "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%.*s\r\n", strlen(verb), verb, length,
                        (int)length, what);
    if (write(redis_fd, command, size) != size) die("redis");
}

static void close_stream(int fd) {
    Channel *channel = streams[fd].channel;
    for (int at = 0; channel && at < channel->count; at++)
        if (channel->fds[at] == fd) channel->fds[at--] = channel->fds[--channel->count];
    free(streams[fd].waiting);
    streams[fd] = (Stream){0};
    close(fd);
}

static void keep(int fd, const char *data, size_t size) {
    Stream *stream = &streams[fd];
    if (!stream->size) watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    stream->waiting = realloc(stream->waiting, stream->size + size);
    memcpy(stream->waiting + stream->size, data, size);
    stream->size += size;
}

static void tell(int fd, const char *data, size_t size) {
    ssize_t sent = streams[fd].size ? 0 : send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) sent = 0;
    if ((size_t)sent < size) keep(fd, data + sent, size - sent);
}

static void flush_stream(int fd) {
    Stream *stream = &streams[fd];
    ssize_t sent = send(fd, stream->waiting, stream->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return;
    memmove(stream->waiting, stream->waiting + sent, stream->size -= sent);
    if (!stream->size) watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

static void follow(int fd, const char *name, size_t length) {
    Channel *channel = channel_of(name, length, 1);
    if (channel->count == channel->room)
        channel->fds = realloc(channel->fds, sizeof(int) * (channel->room = channel->room ? 2 * channel->room : 1));
    channel->fds[channel->count++] = fd;
    streams[fd].channel = channel;
    if (channel->count == 1) tell_redis("SUBSCRIBE", name, length);
    tell(fd, HEAD, sizeof HEAD - 1);
}

static void read_request(int fd) {
    char request[2048];
    ssize_t size = recv(fd, request, sizeof request - 1, MSG_DONTWAIT);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) close_stream(fd);
        return;
    }
    request[size] = 0;
    char *name = request + strlen("GET /"), *end = strchr(name, ' ');
    if (streams[fd].channel || size < 8 || !end || end - name >= NAME) return;
    follow(fd, name, end - name);
}

static void accept_all(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Take `$<n>\r\n<n bytes>\r\n` at *at: true with the bytes, false where they are not all there yet. */
static int take_bulk(char **at, char *end, char **data, size_t *size) {
    char *line = memchr(*at, '\n', end - *at);
    if (!line) return 0;
    *size = strtoul(*at + 1, NULL, 10);
    *data = line + 1;
    if ((size_t)(end - *data) < *size + 2) return 0;
    *at = *data + *size + 2;
    return 1;
}

static void relay(const char *name, size_t length, const char *frame, size_t size) {
    Channel *channel = channel_of(name, length, 0);
    for (int at = 0; channel && at < channel->count; at++) tell(channel->fds[at], frame, size);
}

/* Take one reply; 0 where it is not complete. A confirmation is `*3 $9 subscribe $n name :count`. */
static int take_reply(char **at, char *end) {
    char *rest = memchr(*at, '\n', end - *at), *kind, *name, *frame;
    size_t kind_size, name_size, frame_size;
    if (!rest) return 0;
    rest++;
    if (**at == '*') {
        if (!take_bulk(&rest, end, &kind, &kind_size) || !take_bulk(&rest, end, &name, &name_size)) return 0;
        if (*kind == 'm') {
            if (!take_bulk(&rest, end, &frame, &frame_size)) return 0;
            relay(name, name_size, frame, frame_size);
        } else {
            rest = rest < end ? memchr(rest, '\n', end - rest) : NULL;
            if (!rest++) return 0;
        }
    }
    *at = rest;
    return 1;
}

static void read_redis(void) {
    ssize_t size = recv(redis_fd, in + held, READ, 0);
    if (size <= 0) die("redis");
    held += size;
    char *at = in;
    while (at < in + held && take_reply(&at, in + held)) continue;
    held -= at - in;
    memmove(in, at, held);
}

static int socket_on(int port, int listening) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | (listening ? SOCK_NONBLOCK : 0), 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (listening ? bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)
                  : connect(fd, (void *)&address, sizeof address))
        die("socket");
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    return fd;
}

int main(int count, char **values) {
    if (count != 4) return 2;
    poll_fd = epoll_create1(0);
    redis_fd = socket_on(atoi(values[2]), 0);
    tell_redis("AUTH", values[3], strlen(values[3]));
    int listener = socket_on(atoi(values[1]), 1);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int at = 0; at < ready; at++) {
            int fd = events[at].data.fd;
            if (fd == redis_fd) read_redis();
            else if (fd == listener) accept_all(listener);
            else {
                if (events[at].events & EPOLLOUT) flush_stream(fd);
                if (events[at].events & ~EPOLLOUT) read_request(fd);
            }
        }
    }
}
