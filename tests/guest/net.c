/*
 * TCP between two computers, with both ends' checksums:
 *
 *     net serve PORT                               answers connections until it is killed
 *     net up|down SUBJECT KEY ADDRESS PORT BYTES   sends or gets so many bytes, and prints facts
 *
 * The client's facts are the bytes that have arrived, the checksums of the sender and of the
 * receiver, and how many millions of bits went over in a second. The bytes are pseudo-random, so
 * that no two packets are alike.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

/* A peer that has gone is noticed after so long. */
#define PATIENCE_S 120

struct request {
	uint64_t bytes;
	/* 1: the client sends. 0: the server does. */
	uint64_t up;
};

struct sum {
	uint64_t bytes;
	uint64_t value;
};

static uint64_t buffer[CHUNK / 8];

static void add(struct sum *sum, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)buffer;
	size_t i;

	for (i = 0; i + 8 <= length; i += 8) sum->value = ((sum->value ^ buffer[i / 8]) * 0x9e3779b97f4a7c15u) + (sum->value >> 29);
	for (; i < length; i++) sum->value = (sum->value ^ bytes[i]) * 0x100000001b3u;
	sum->bytes += length;
}

/* Whole pieces only. Returns how much has gone before an error or the end. */
static size_t give(int fd, const void *from, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = send(fd, (const char *)from + done, length - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) break;
		done += n;
	}
	return done;
}

static size_t take(int fd, void *to, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = recv(fd, (char *)to + done, length - done, 0);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) break;
		done += n;
	}
	return done;
}

static size_t piece(uint64_t left)
{
	return left < CHUNK ? left : CHUNK;
}

static struct sum send_all(int fd, uint64_t bytes)
{
	struct sum sum = {0, 1};
	uint64_t state = 88172645463325252u ^ bytes;

	for (size_t i = 0; i < CHUNK / 8; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		buffer[i] = state;
	}
	while (sum.bytes < bytes) {
		size_t length = piece(bytes - sum.bytes);
		/* Other bytes in each piece, for the price of an addition. */
		for (size_t i = 0; i < CHUNK / 8; i++) buffer[i] += 0x9e3779b97f4a7c15u;
		if (give(fd, buffer, length) != length) break;
		add(&sum, length);
	}
	return sum;
}

static struct sum take_all(int fd, uint64_t bytes)
{
	struct sum sum = {0, 1};

	while (sum.bytes < bytes) {
		size_t length = piece(bytes - sum.bytes);
		size_t got = take(fd, buffer, length);
		add(&sum, got);
		if (got != length) break;
	}
	return sum;
}

static void be_patient(int fd)
{
	struct timeval limit = {PATIENCE_S, 0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static void answer(int fd)
{
	struct request request;
	struct sum sum;

	be_patient(fd);
	if (take(fd, &request, sizeof(request)) != sizeof(request)) return;
	sum = request.up ? take_all(fd, request.bytes) : send_all(fd, request.bytes);
	give(fd, &sum, sizeof(sum));
}

static int serve(int port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(listener, 8) < 0) {
		perror("net serve");
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0) continue;
		if (fork() == 0) {
			answer(fd);
			_exit(0);
		}
		close(fd);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int transfer(const char *subject, const char *key, const char *address, int port, struct request request)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sum ours, theirs = {0, 0};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double began;

	inet_pton(AF_INET, address, &peer.sin_addr);
	be_patient(fd);
	if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0) {
		printf("@ %s %s.error connect: %s\n", subject, key, strerror(errno));
		return 1;
	}
	began = now();
	give(fd, &request, sizeof(request));
	ours = request.up ? send_all(fd, request.bytes) : take_all(fd, request.bytes);
	if (take(fd, &theirs, sizeof(theirs)) != sizeof(theirs)) printf("@ %s %s.error no sum of the peer\n", subject, key);
	printf("@ %s %s.bytes %llu\n", subject, key, (unsigned long long)(request.up ? theirs.bytes : ours.bytes));
	printf("@ %s %s.sent %016llx\n", subject, key, (unsigned long long)(request.up ? ours.value : theirs.value));
	printf("@ %s %s.received %016llx\n", subject, key, (unsigned long long)(request.up ? theirs.value : ours.value));
	printf("@ %s %s.megabits %.0f\n", subject, key, request.bytes * 8 / 1e6 / (now() - began));
	return 0;
}

int main(int count, char **words)
{
	if (count == 3 && strcmp(words[1], "serve") == 0) return serve(atoi(words[2]));
	if (count == 7) {
		struct request request = {strtoull(words[6], NULL, 0), strcmp(words[1], "up") == 0};
		return transfer(words[2], words[3], words[4], atoi(words[5]), request);
	}
	fprintf(stderr, "net serve PORT, or net up|down SUBJECT KEY ADDRESS PORT BYTES\n");
	return 2;
}
