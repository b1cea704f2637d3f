// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Small UDP packets at the highest rate, and round-trip times: what iperf3
 * saturates on before the tunnel does. System calls carry BATCH packets each.
 *
 *   traffic send ADDRESS PORT BYTES SECONDS   prints: sent PACKETS
 *   traffic receive PORT SECONDS              prints: received PACKETS SECONDS
 *   traffic echo PORT SECONDS                 returns every packet
 *   traffic ping ADDRESS PORT COUNT           prints COUNT round-trip times, ns, a line each
 *
 * `receive` measures from its first packet to its last.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { BATCH = 64, PACKET_MAX = 2048, BUFFER = 8 << 20 };

static char storage[BATCH][PACKET_MAX];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_socket(double timeout)
{
	struct timeval wait = { (long)timeout, (long)(timeout * 1e6) % 1000000 };
	int size = BUFFER, s = socket(AF_INET, SOCK_DGRAM, 0);

	if (s < 0)
		fail("socket");
	if (setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)))
		fail("setsockopt");
	return s;
}

static struct sockaddr_in address_of(const char *text, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", text);
		exit(2);
	}
	return address;
}

static void listen_on(int s, const char *port)
{
	struct sockaddr_in any = address_of("0.0.0.0", port);

	if (bind(s, (struct sockaddr *)&any, sizeof(any)))
		fail("bind");
}

static void prepare(struct mmsghdr *messages, struct iovec *vectors, size_t size)
{
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ storage[i], size };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };
	}
}

static int send_flood(const char *to, const char *port, int size, double seconds)
{
	struct sockaddr_in address = address_of(to, port);
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	int s = open_socket(0.1);
	long sent = 0;

	if (size < 1 || size > PACKET_MAX)
		return 2;
	if (connect(s, (struct sockaddr *)&address, sizeof(address)))
		fail("connect");
	prepare(messages, vectors, size);
	for (double end = now() + seconds; now() < end;) {
		int n = sendmmsg(s, messages, BATCH, 0);

		if (n > 0)
			sent += n;
		else if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED &&
			 errno != EINTR)
			fail("sendmmsg");
	}
	printf("sent %ld\n", sent);
	return 0;
}

static int receive_flood(const char *port, double seconds)
{
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	double first = 0, last = 0;
	int s = open_socket(0.2);
	long received = 0;

	listen_on(s, port);
	prepare(messages, vectors, PACKET_MAX);
	for (double end = now() + seconds; now() < end;) {
		int n = recvmmsg(s, messages, BATCH, MSG_WAITFORONE, NULL);

		if (n <= 0)
			continue;
		last = now();
		if (!received)
			first = last;
		received += n;
	}
	printf("received %ld %.6f\n", received, last - first);
	return 0;
}

static int echo(const char *port, double seconds)
{
	char packet[PACKET_MAX];
	int s = open_socket(0.2);

	listen_on(s, port);
	for (double end = now() + seconds; now() < end;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(s, packet, sizeof(packet), 0, (struct sockaddr *)&from, &length);

		if (n >= 0)
			sendto(s, packet, n, 0, (struct sockaddr *)&from, length);
	}
	return 0;
}

static int ping(const char *to, const char *port, int count)
{
	struct sockaddr_in address = address_of(to, port);
	char packet[64] = { 0 };
	int s = open_socket(0.5);

	if (connect(s, (struct sockaddr *)&address, sizeof(address)))
		fail("connect");
	for (int i = 0; i < count; i++) {
		double start = now();

		if (send(s, packet, sizeof(packet), 0) < 0 || recv(s, packet, sizeof(packet), 0) < 0)
			continue; /* a lost one has no round-trip time */
		printf("%.0f\n", (now() - start) * 1e9);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "send") && argc == 6)
		return send_flood(argv[2], argv[3], atoi(argv[4]), atof(argv[5]));
	if (!strcmp(verb, "receive") && argc == 4)
		return receive_flood(argv[2], atof(argv[3]));
	if (!strcmp(verb, "echo") && argc == 4)
		return echo(argv[2], atof(argv[3]));
	if (!strcmp(verb, "ping") && argc == 5)
		return ping(argv[2], argv[3], atoi(argv[4]));
	fprintf(stderr, "usage: traffic send|receive|echo|ping ...\n");
	return 2;
}
