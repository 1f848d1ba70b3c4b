/* What librdkafka's performance tool takes from librdkafka's source tree, so that it builds against the installed
 * library. */
#ifndef RDKAFKA_SHIM_H
#define RDKAFKA_SHIM_H

#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define RD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RD_UNUSED __attribute__((unused))
#define RD_NORETURN __attribute__((noreturn))

#define rd_snprintf snprintf

typedef int64_t rd_ts_t;

static inline rd_ts_t rd_clock(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (rd_ts_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

#endif
