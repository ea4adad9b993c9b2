// Drives nats.c in the same workloads and with the same words as the Rust drivers.
//
//     nats_c version
//     nats_c drive nats.c WORKLOAD URL [bytes=16] [headers=1] [messages=100000] ...
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *URL;
static char *PAYLOAD;
static long BYTES, HEADERS, MESSAGES, WARM_UP, TASKS, SUBSCRIPTIONS, ACTIVE, CONNECTIONS, BURST, WINDOW = 4;

static void must(natsStatus status, const char *what) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

// Nanoseconds of wall time or of processor time, the latter of all threads.
static long clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static long BEGUN_WALL, BEGUN_CPU;

static void start(void) {
    BEGUN_WALL = clock_ns(CLOCK_MONOTONIC);
    BEGUN_CPU = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static int by_size(const void *left, const void *right) {
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static void report(long messages, long *latencies, double bytes_each) {
    long cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - BEGUN_CPU;
    long wall = clock_ns(CLOCK_MONOTONIC) - BEGUN_WALL;
    printf("{\"client\":\"nats.c\",\"messages\":%ld,\"cpu_ns\":%ld,\"wall_ns\":%ld", messages, cpu, wall);
    if (latencies) {
        qsort(latencies, messages, sizeof(long), by_size);
        printf(",\"p50_ns\":%ld,\"p99_ns\":%ld,\"p999_ns\":%ld", latencies[messages / 2],
               latencies[messages * 99 / 100], latencies[messages * 999 / 1000]);
    }
    if (bytes_each > 0)
        printf(",\"bytes_each\":%f", bytes_each);
    printf("}\n");
    fflush(stdout);
    _exit(0);
}

static double resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        exit(1);
    fclose(file);
    return (double)pages * sysconf(_SC_PAGESIZE);
}

static natsConnection *connection(void) {
    natsOptions *options = NULL;
    natsConnection *client = NULL;
    must(natsOptions_Create(&options), "options");
    must(natsOptions_SetURL(options, URL), "URL");
    if (strncmp(URL, "tls", 3) == 0) {
        must(natsOptions_SetSecure(options, true), "TLS");
        must(natsOptions_LoadCATrustedCertificates(options, getenv("SSL_CERT_FILE")), "authority");
        must(natsOptions_SetExpectedHostname(options, "127.0.0.1"), "host name");
    }
    // Otherwise each subscription has a thread of its own.
    if (SUBSCRIPTIONS > 1)
        must(natsOptions_UseGlobalMessageDelivery(options, true), "delivery");
    must(natsConnection_Connect(&client, options), "connect");
    natsOptions_Destroy(options);
    return client;
}

static natsMsg *message(const char *subject) {
    natsMsg *made = NULL;
    must(natsMsg_Create(&made, subject, NULL, PAYLOAD, (int)BYTES), "message");
    must(natsMsgHeader_Set(made, "Kind", "order-placed"), "header");
    must(natsMsgHeader_Set(made, "Origin", "shop-17"), "header");
    return made;
}

static void ask(natsConnection *client, natsMsg *with_headers, long bytes) {
    natsMsg *answer = NULL;
    if (with_headers)
        must(natsConnection_RequestMsg(&answer, client, with_headers, 10000), "request");
    else
        must(natsConnection_Request(&answer, client, "echo", PAYLOAD, (int)bytes, 10000), "request");
    natsMsg_Destroy(answer);
}

static void publish_all(natsConnection *client, natsMsg *with_headers, long messages) {
    for (long i = 0; i < messages; i++) {
        if (with_headers)
            must(natsConnection_PublishMsg(client, with_headers), "publish");
        else
            must(natsConnection_Publish(client, "bench", PAYLOAD, (int)BYTES), "publish");
    }
    // The server has everything when it answers.
    ask(client, NULL, 0);
}

static void publish(void) {
    natsConnection *client = connection();
    natsMsg *with_headers = HEADERS ? message("bench") : NULL;
    publish_all(client, with_headers, WARM_UP);
    start();
    publish_all(client, with_headers, MESSAGES);
    report(MESSAGES, NULL, 0);
}

// Messages that were received, and the number at which somebody waits.
static long TAKEN, AWAITED;
static pthread_mutex_t LOCK = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t REACHED = PTHREAD_COND_INITIALIZER;

static void on_message(natsConnection *client, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)sub;
    (void)closure;
    if (HEADERS) {
        const char *value = NULL;
        must(natsMsgHeader_Get(msg, "Kind", &value), "the header");
    }
    natsMsg_Destroy(msg);
    // Several threads deliver to many subscriptions.
    long taken = __atomic_add_fetch(&TAKEN, 1, __ATOMIC_RELAXED);
    if (taken % BURST == 0)
        must(natsConnection_Publish(client, "ack", "", 0), "ack");
    if (taken == __atomic_load_n(&AWAITED, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&LOCK);
        pthread_cond_signal(&REACHED);
        pthread_mutex_unlock(&LOCK);
    }
}

static void take(natsConnection *client, long messages) {
    char text[128];
    int length = snprintf(text, sizeof text, "%ld %ld %ld %ld 0 %ld %ld %ld", BURST, WINDOW, BYTES, HEADERS,
                          messages, SUBSCRIPTIONS, ACTIVE);
    __atomic_store_n(&TAKEN, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&AWAITED, messages, __ATOMIC_RELAXED);
    pthread_mutex_lock(&LOCK);
    must(natsConnection_Publish(client, "start", text, length), "start");
    while (__atomic_load_n(&TAKEN, __ATOMIC_RELAXED) < messages)
        pthread_cond_wait(&REACHED, &LOCK);
    pthread_mutex_unlock(&LOCK);
}

static void subscribe(void) {
    natsConnection *client = connection();
    for (long i = 0; i < SUBSCRIPTIONS; i++) {
        char filter[32] = "bench";
        natsSubscription *sub = NULL;
        if (SUBSCRIPTIONS > 1)
            snprintf(filter, sizeof filter, "bench.%ld", i);
        must(natsConnection_Subscribe(&sub, client, filter, on_message, NULL), "subscribe");
        must(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    }
    ask(client, NULL, 0);
    take(client, WARM_UP);
    start();
    take(client, MESSAGES);
    report(MESSAGES, NULL, 0);
}

static void request(void) {
    natsConnection *client = connection();
    natsMsg *with_headers = HEADERS ? message("echo") : NULL;
    for (long i = 0; i < WARM_UP; i++)
        ask(client, with_headers, BYTES);
    long *latencies = calloc(MESSAGES, sizeof(long));
    start();
    for (long i = 0; i < MESSAGES; i++) {
        long begun = clock_ns(CLOCK_MONOTONIC);
        ask(client, with_headers, BYTES);
        latencies[i] = clock_ns(CLOCK_MONOTONIC) - begun;
    }
    report(MESSAGES, latencies, 0);
}

static long EACH;

static void *ask_many(void *client) {
    natsMsg *with_headers = HEADERS ? message("echo") : NULL;
    for (long i = 0; i < EACH; i++)
        ask(client, with_headers, BYTES);
    return NULL;
}

static void ask_in_parallel(natsConnection *client, long requests) {
    pthread_t *threads = calloc(TASKS, sizeof(pthread_t));
    EACH = (requests + TASKS - 1) / TASKS;
    for (long i = 0; i < TASKS; i++)
        if (pthread_create(&threads[i], NULL, ask_many, client))
            exit(1);
    for (long i = 0; i < TASKS; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

static void parallel(void) {
    natsConnection *client = connection();
    ask_in_parallel(client, WARM_UP);
    start();
    ask_in_parallel(client, MESSAGES);
    report(EACH * TASKS, NULL, 0);
}

static void idle_subscriptions(void) {
    natsConnection *client = connection();
    ask(client, NULL, 0);
    double before = resident_bytes();
    start();
    for (long i = 0; i < SUBSCRIPTIONS; i++) {
        char filter[32];
        natsSubscription *sub = NULL;
        snprintf(filter, sizeof filter, "bench.%ld", i);
        // Without a callback there is no thread for each.
        must(natsConnection_SubscribeSync(&sub, client, filter), "subscribe");
    }
    ask(client, NULL, 0);
    report(SUBSCRIPTIONS, NULL, (resident_bytes() - before) / SUBSCRIPTIONS);
}

static void idle_connections(void) {
    connection();
    double before = resident_bytes();
    start();
    for (long i = 0; i < CONNECTIONS; i++)
        connection();
    usleep(200000);
    report(CONNECTIONS, NULL, (resident_bytes() - before) / CONNECTIONS);
}

static long setting(int count, char **words, const char *key, long otherwise) {
    size_t length = strlen(key);
    for (int i = 0; i < count; i++)
        if (strncmp(words[i], key, length) == 0 && words[i][length] == '=')
            return atol(words[i] + length + 1);
    return otherwise;
}

static const struct {
    const char *name;
    void (*run)(void);
} WORKLOADS[] = {
    {"publish", publish},
    {"subscribe", subscribe},
    {"request", request},
    {"parallel", parallel},
    {"idle-subscriptions", idle_subscriptions},
    {"idle-connections", idle_connections},
};

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "version") == 0) {
        printf("%s\n", nats_GetVersion());
        return 0;
    }
    if (count < 5)
        return 2;
    URL = words[4];
    BYTES = setting(count, words, "bytes", 16);
    HEADERS = setting(count, words, "headers", 0);
    MESSAGES = setting(count, words, "messages", 100000);
    WARM_UP = MESSAGES / 10;
    TASKS = setting(count, words, "tasks", 1);
    SUBSCRIPTIONS = setting(count, words, "subscriptions", 1);
    ACTIVE = setting(count, words, "active", SUBSCRIPTIONS);
    CONNECTIONS = setting(count, words, "connections", 1);
    long fitting = (512L << 10) / (BYTES + 32);
    BURST = setting(count, words, "burst", fitting < 4096 ? fitting : 4096);
    PAYLOAD = malloc(BYTES + 1);
    memset(PAYLOAD, 'x', BYTES);
    PAYLOAD[BYTES] = 0;
    for (size_t i = 0; i < sizeof WORKLOADS / sizeof *WORKLOADS; i++)
        if (strcmp(WORKLOADS[i].name, words[3]) == 0)
            WORKLOADS[i].run();
    fprintf(stderr, "no workload %s\n", words[3]);
    return 2;
}
