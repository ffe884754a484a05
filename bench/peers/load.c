/* The load: holds the streams, publishes, and measures what comes, in one thread of its own core.
 *
 * load PORT READY REQUESTS TARGETS redis|http|zmq PORT PASSWORD frame|json
 *   READY     bytes that a stream's first answer contains once it follows its channel
 *   REQUESTS  a file: for each stream a line with its request's length, then the request
 *   TARGETS   a file: for each stream a line with the Redis channel, or the path, by which it is published to
 *   frame     messages are whole frames with id and event; json: the data alone, the server makes the frame
 *
 * Commands are lines on standard input, each answered by a line of JSON:
 *   open AT_ONCE                           opens all streams
 *   unicast RATE SECONDS ALL CHURN SLOW    to streams drawn at random; of ALL of them the others are left alone; CHURN
 *                                          of those are opened anew each second; SLOW read nothing, and are sent to, too
 *   broadcast ROUNDS WINDOW TARGET CHUNK   to everybody, WINDOW rounds at once; CHUNK recipients in a message that
 *                                          names each (0: one message for all; -1: one for each target of the file)
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
#include <time.h>
#include <unistd.h>

enum {
    MAX_STREAMS = 20000,
    EVENTS = 256,
    READ = 1 << 18,
    CARRY = 32,      /* Bytes of a time stamp that may lie in two reads. */
    DATA = 400,      /* Bytes of a message's data. */
    BATCH = 256,     /* Messages between two looks at what comes. */
    LINES = 8,       /* Connections that publish by HTTP. */
    MAX_AGES = 1 << 23,
    STALL_NS = 1000000000, /* Nothing came for so long: what is missing does not come. */
    TRIES = 5,       /* Openings of a stream that is closed or refused (5xx) instead, as a browser would. */
    MADE = 512,      /* Bytes that are put before a message at most. */
};
/* How is published. By ZeroMQ: to pushpin's PULL socket, in pushpin's format, as a PUSH socket of ZMTP 3.0 would. */
enum { BY_REDIS, BY_HTTP, BY_ZMQ };
#define BILLION 1000000000LL
static const char STAMP[] = "\"sent\":";
enum { STAMP_SIZE = sizeof STAMP - 1, DIGITS = 19 };

typedef struct {
    int fd, ready, stopped, carried, tries;
    char *request, *target, carry[CARRY];
    size_t request_size;
    long seq;
} Stream;

typedef struct {
    int fd;
    char *bytes;
    size_t size, room;
} Line;

static Stream streams[MAX_STREAMS];
static Line lines[LINES];
static int poll_fd, number, port, publish_port, by, whole_frames, line_count, opening, opened, again, lost, measured, answered, unanswered;
static const char *ready_mark, *password;
static char buffer[CARRY + READ], message[1 << 20], padding[DATA];
static unsigned *ages; /* Microseconds. */
static long received, aged;
static long long heard_at;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static long long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * BILLION + at.tv_nsec;
}

static int connection(int to, int waits) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | (waits ? 0 : SOCK_NONBLOCK), 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    return fd;
}

static void watch(int fd, int operation, unsigned events, unsigned place) {
    struct epoll_event event = {.events = events, .data.u32 = place};
    if (epoll_ctl(poll_fd, operation, fd, &event)) die("epoll_ctl");
}

static void open_stream(int place) {
    Stream *stream = &streams[place];
    stream->fd = connection(port, 0);
    stream->ready = stream->carried = 0;
    watch(stream->fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT, place);
}

static void close_stream(int place) {
    close(streams[place].fd);
    streams[place].fd = -1;
    opened -= streams[place].ready;
}

/* What a server has closed or refused while all are being opened is opened once more. */
static void close_or_open_again(int place) {
    close_stream(place);
    if (opening && ++streams[place].tries < TRIES) {
        again++;
        open_stream(place);
    } else {
        lost++;
    }
}

/* Count the messages that end in what was read, and note the age of each. */
static void count(Stream *stream, char *at, char *end) {
    long long now = now_ns();
    int noted = stream - streams < measured;
    char *found;
    while ((found = memmem(at, end - at, STAMP, STAMP_SIZE)) && end - found >= STAMP_SIZE + DIGITS) {
        long long sent = strtoll(found + STAMP_SIZE, NULL, 10);
        if (noted && aged < MAX_AGES) ages[aged++] = (now - sent) / 1000;
        received += noted;
        at = found + STAMP_SIZE + DIGITS;
    }
    stream->carried = end - at < CARRY ? end - at : CARRY;
    memcpy(stream->carry, end - stream->carried, stream->carried);
    heard_at = now;
}

static void take(int place, unsigned events) {
    Stream *stream = &streams[place];
    if (stream->fd < 0) return;
    if (events & EPOLLOUT) {
        watch(stream->fd, EPOLL_CTL_MOD, EPOLLIN, place);
        if (send(stream->fd, stream->request, stream->request_size, MSG_NOSIGNAL) != (ssize_t)stream->request_size) lost++;
    }
    if (!(events & ~EPOLLOUT)) return;
    char *start = buffer + CARRY - stream->carried;
    memcpy(start, stream->carry, stream->carried);
    ssize_t size = recv(stream->fd, buffer + CARRY, READ, MSG_DONTWAIT);
    if (size <= 0) {
        if (size < 0 && errno == EAGAIN) return;
        close_or_open_again(place);
    } else if (stream->ready) {
        count(stream, start, buffer + CARRY + size);
    } else if (memmem(start, stream->carried + size, ready_mark, strlen(ready_mark))) {
        stream->ready = 1;
        opened++;
        answered++;
        stream->carried = 0;
    } else if (!stream->carried && size > 10 && !memcmp(buffer + CARRY, "HTTP/1.1 5", 10)) {
        close_or_open_again(place);
    } else {
        stream->carried = size < CARRY ? size : CARRY;
        memcpy(stream->carry, buffer + CARRY + size - stream->carried, stream->carried);
    }
}

static void flush(Line *line) {
    ssize_t sent = line->size ? send(line->fd, line->bytes, line->size, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (sent < 0 && errno != EAGAIN) die("publish");
    if (sent > 0) memmove(line->bytes, line->bytes + sent, line->size -= sent);
}

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poll_fd, events, EVENTS, timeout_ms);
    for (int at = 0; at < ready; at++) {
        unsigned place = events[at].data.u32;
        if (place < MAX_STREAMS) take(place, events[at].events);
        else if (recv(lines[place - MAX_STREAMS].fd, buffer, READ, MSG_DONTWAIT) == 0) die("publisher closed");
    }
    for (int at = 0; at < line_count; at++) flush(&lines[at]);
}

static void append(Line *line, const char *bytes, size_t size) {
    if (line->size + size > line->room) line->bytes = realloc(line->bytes, line->room = 2 * (line->size + size));
    memcpy(line->bytes + line->size, bytes, size);
    line->size += size;
}

static int head_of_http(char *head, const char *target, size_t size) {
    return snprintf(head, MADE, "POST %s HTTP/1.1\r\nHost: b\r\nContent-Length: %zu\r\n\r\n", target, size);
}

static int head_of_redis(char *head, const char *target, size_t size) {
    return snprintf(head, MADE, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(target), target, size);
}

/* The frame's length, then {channel, formats: {http-stream: {content}}} as a tnetstring, from the inside out. */
static int head_of_zmq(char *head, const char *target, size_t size) {
    char content[64], format[128], item[MADE / 2];
    int length = sprintf(content, "7:content,%zu:", size);
    length = sprintf(format, "11:http-stream,%zu:%s", length + size + 1, content);
    length = snprintf(item, sizeof item, "7:channel,%zu:%s,7:formats,%zu:%s", strlen(target), target, length + size + 2, format);
    length = snprintf(head + 9, MADE - 9, "%zu:%s", length + size + 3, item);
    head[0] = 2; /* A long frame, and no other of this message. */
    unsigned long long whole = length + size + strlen(",}}}");
    for (int at = 0; at < 8; at++) head[1 + at] = whole >> (56 - 8 * at);
    return 9 + length;
}

static void publish(const char *target, const char *body, size_t size) {
    static int (*const heads[])(char *, const char *, size_t) = {head_of_redis, head_of_http, head_of_zmq};
    static const char *const tails[] = {"\r\n", "", ",}}}"};
    static int next;
    Line *line = &lines[next++ % line_count];
    char head[MADE];
    append(line, head, heads[by](head, target, size));
    append(line, body, size);
    append(line, tails[by], strlen(tails[by]));
}

/* Write a message's data of exactly DATA bytes, time stamp last; returns its size with what is around it. */
static size_t compose(long seq) {
    int head = whole_frames ? sprintf(message, "id: 1-%ld\nevent: notification\ndata: ", seq) : 0;
    char *data = message + head;
    int size = sprintf(data, "{\"prev\":%ld,\"type\":\"created\",\"text\":\"", seq - 1), tail = 2 + STAMP_SIZE + DIGITS + 1;
    memcpy(data + size, padding, DATA - size - tail);
    sprintf(data + DATA - tail, "\",%s%019lld}", STAMP, now_ns());
    if (whole_frames) strcpy(data + DATA, "\n\n");
    return head + DATA + 2 * whole_frames;
}

/* Publish what a fan-out's chunk publishes: what is shared once, and a line for each recipient. */
static void publish_chunk(const char *target, int from, int to) {
    int size = sprintf(message, "shared 1\n,\"text\":\"%.*s\",%s%019lld}}", DATA - 170, padding, STAMP, now_ns());
    for (int place = from; place < to; place++)
        size += sprintf(message + size, "\n%d %ld 01890000-0000-8000-a000-%012d 1 1", place + 1, ++streams[place].seq, place);
    publish(target, message, size);
}

static void publish_round(const char *target, int chunk) {
    if (chunk == 0) publish(target, message, compose(++streams[0].seq));
    for (int from = 0; chunk > 0 && from < number; from += chunk)
        publish_chunk(target, from, from + chunk < number ? from + chunk : number);
    for (int place = 0; chunk < 0 && place < number && streams[place].target[0]; place++)
        publish(streams[place].target, message, compose(++streams[place].seq));
}

static int by_age(const void *one, const void *other) {
    unsigned left = *(const unsigned *)one, right = *(const unsigned *)other;
    return (left > right) - (left < right);
}

static double age(double share) {
    return aged ? ages[(long)(share * (aged - 1))] / 1000.0 : 0;
}

static void say(const char *what, long sent, long long began) {
    qsort(ages, aged, sizeof *ages, by_age);
    printf("{\"%s\":%ld,\"received\":%ld,\"seconds\":%.6f,\"p50\":%.3f,\"p99\":%.3f,\"last\":%.3f,\"again\":%d,\"lost\":%d,\"unanswered\":%d}\n",
           what, sent, received, (heard_at - began) / 1e9, age(.5), age(.99), age(1), again, lost, unanswered);
    fflush(stdout);
}

static void reset(int all) {
    received = aged = answered = unanswered = 0;
    measured = all;
    heard_at = now_ns();
}

static void do_open(int at_once) {
    long long began = now_ns();
    reset(number);
    opening = 1;
    for (int begun = 0; opened + lost < number; turn(10)) {
        if (now_ns() - began > 60 * BILLION) die("open");
        for (; begun < number && begun - opened - lost < at_once; begun++) open_stream(begun);
    }
    opening = 0;
    heard_at = now_ns();
    say("opened", opened, began);
}

static void reopen(int all, int slow) {
    static int next;
    int place = all + slow + next++ % (number - all - slow);
    if (streams[place].fd >= 0) close_stream(place);
    open_stream(place);
}

static void do_unicast(double rate, double seconds, int all, double churn, int slow) {
    long long began = now_ns(), elapsed = 0;
    long sent = 0, reopened = 0;
    reset(all);
    for (int place = all; place < all + slow; place++) watch(streams[place].fd, EPOLL_CTL_MOD, 0, place);
    /* Half a second's messages in flight: it does not keep up. */
    while (elapsed < seconds * BILLION && sent - received < rate / 2 + 200) {
        elapsed = now_ns() - began;
        long due = rate * elapsed / BILLION - sent;
        for (int at = 0; at < due && at < BATCH; at++, sent++) {
            int place = rand() % all;
            publish(streams[place].target, message, compose(++streams[place].seq));
            if (slow && sent % 4 == 0) {
                place = all + rand() % slow;
                publish(streams[place].target, message, compose(++streams[place].seq));
            }
        }
        for (; reopened < churn * elapsed / BILLION; reopened++) reopen(all, slow);
        /* Asleep until something comes, or for a millisecond: the core is also Redis's. */
        turn(due > BATCH ? 0 : 1);
    }
    while (received < sent && now_ns() - heard_at < STALL_NS) turn(10);
    for (long long ended = now_ns(); answered < reopened && now_ns() - ended < STALL_NS;) turn(10);
    unanswered = reopened - answered;
    say("sent", sent, began);
}

static void do_broadcast(int rounds, int window, const char *target, int chunk) {
    reset(number);
    long long began = now_ns();
    for (int done = 0; received < (long)rounds * number && now_ns() - heard_at < 5LL * STALL_NS; turn(done < rounds ? 1 : 10))
        for (; done < rounds && done - received / number < window; done++) publish_round(target, chunk);
    say("sent", (long)rounds * number, began);
}

static char *line_of(FILE *file) {
    static char line[256];
    if (!fgets(line, sizeof line, file)) return NULL;
    line[strcspn(line, "\n")] = 0;
    return line;
}

static void read_files(const char *requests, const char *targets) {
    FILE *from = fopen(requests, "r"), *names = fopen(targets, "r");
    if (!from || !names) die("files");
    for (char *line; number < MAX_STREAMS && (line = line_of(from)); number++) {
        Stream *stream = &streams[number];
        stream->fd = -1;
        stream->request = malloc(stream->request_size = strtoul(line, NULL, 10));
        if (fread(stream->request, 1, stream->request_size, from) != stream->request_size) die("requests");
        stream->target = strdup((line = line_of(names)) ? line : "");
    }
    fclose(from);
    fclose(names);
}

static void open_lines(void) {
    line_count = by == BY_HTTP ? LINES : 1;
    for (int at = 0; at < line_count; at++) {
        lines[at].fd = connection(publish_port, 1);
        watch(lines[at].fd, EPOLL_CTL_ADD, EPOLLIN, MAX_STREAMS + at);
    }
    char command[256] = "\xff\0\0\0\0\0\0\0\0\x7f\3\0NULL";
    static const char ready[] = "\4\x1a\5READY\x0bSocket-Type\0\0\0\4PUSH";
    if (by == BY_ZMQ) append(&lines[0], command, 64), append(&lines[0], ready, sizeof ready - 1);
    sprintf(command, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password);
    if (by == BY_REDIS) append(&lines[0], command, strlen(command));
}

int main(int argc, char **argv) {
    if (argc != 9) return 2;
    port = atoi(argv[1]), ready_mark = argv[2], publish_port = atoi(argv[6]);
    by = !strcmp(argv[5], "http") ? BY_HTTP : !strcmp(argv[5], "zmq") ? BY_ZMQ : BY_REDIS;
    password = argv[7], whole_frames = !strcmp(argv[8], "frame");
    ages = malloc(MAX_AGES * sizeof *ages);
    memset(padding, 'x', DATA);
    poll_fd = epoll_create1(0);
    read_files(argv[3], argv[4]);
    open_lines();
    char line[256], target[128];
    double rate, seconds, churn;
    int first, second, slow;
    while (fgets(line, sizeof line, stdin)) {
        again = lost = 0;
        if (sscanf(line, "open %d", &first) == 1) do_open(first);
        else if (sscanf(line, "unicast %lf %lf %d %lf %d", &rate, &seconds, &first, &churn, &slow) == 5)
            do_unicast(rate, seconds, first, churn, slow);
        else if (sscanf(line, "broadcast %d %d %127s %d", &first, &second, target, &slow) == 4)
            do_broadcast(first, second, target, slow);
        else return 2;
    }
    return 0;
}
