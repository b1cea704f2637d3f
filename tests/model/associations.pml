/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Which associations two hosts keep: docs/protocol.md, "Association life".
 * Host 0 has the bytewise smaller identity. One step of this model is one
 * message handled, one sent, or one timer.
 *
 * The network is a set, as in ratchet.pml: loss, delay, reordering, duplication
 * and replay at once. Hosts crash and forget all but their timestamps and
 * persistent floors. Long timers are guards on what shorter ones have made sure
 * of: an exchange begins only when the peer no longer takes the RESPONSE that we
 * last sent (6 s against 5.5 s); a RESPONSE not answered for 90 s is forgotten only when its initiator no
 * longer waits for it (5 s) nor sends under it; silence for 15 s means that the
 * other side does not hold what is sent under.
 *
 * At some moment, chosen freely, the network becomes reliable: nobody crashes,
 * what is sent from then on arrives, what was in flight arrives or not, and
 * exchanges are started only where needed. Each host may start MORE of them;
 * where the run ends both must hold the same current association, confirmed.
 *
 * Claims: that; and without crashes and outages of fifteen seconds: the only
 * association that works is never erased, and nobody sends under one that the
 * other side does not hold while both hold another. A host has room for previous,
 * current and one pending association, no more.
 */
#include "settings.h"

#ifndef CHAOS
#define CHAOS 2 /* exchanges that each host starts at will, at most */
#endif
#ifndef MORE
#define MORE 2 /* and of need, after the network became reliable */
#endif
/* Told when run: */
byte chaos = CHAOS;
byte crashes_left = 0;
byte ahead = 0;	  /* timestamps of host 0 below host 1's floor: a clock set back */
bit one_way = 0;  /* only host 0 has traffic */
bit outages = 0;  /* nothing may arrive for more than 15 s */

/* Deliberately broken variants, each of which must be caught. */
#define LAST_WINS 1    /* the association confirmed last is current, not the newest */
#define NO_PATIENCE 2  /* an exchange begins while the peer may yet take our RESPONSE */
#define KEEP_OWN 3     /* the larger identity answers and still takes a RESPONSE */
#define REFUSE_ALL 4   /* the smaller identity answers nothing while it initiates */
#define SILENT_FLOOR 5 /* an INITIATION below the floor is dropped, no more */
#define NO_FLOOR 6     /* pending associations set no floor: replays replace them */
#define NO_PENDING 7   /* an answered association sends before anything came under it */
#define SMALLER_WINS 8 /* of two confirmed ones that of the smaller identity is current */
byte variant = 0;
#define BROKEN(name) (variant == name)

#define EACH (CHAOS + MORE)
#define VERSIONS 2
#define NONE 255
/* An exchange: who started it, and its timestamp. */
#define EXCHANGE(who, when) ((who) * EACH + (when))
#define WHEN(e) ((e) % EACH)
/* An association: a responder that crashed may answer the same message again. */
#define ASSOCIATION(e, version) ((e) * VERSIONS + (version))
#define OF(a) ((a) / VERSIONS)
#define WHO(a) (OF(a) / EACH)
#define EXCHANGES (2 * EACH)
#define ASSOCIATIONS (EXCHANGES * VERSIONS)

typedef side {
	byte previous = NONE;
	byte current = NONE;	/* data goes out under it */
	byte pending = NONE;	/* we answered */
	bit newer = 0;		/* the pending one was made after the current one */
	bit crossed = 0;	/* we refused an INITIATION that crossed ours */
	bit hoping = 0;		/* the current one is not confirmed: we initiated */
	byte waiting = NONE;	/* the exchange whose RESPONSE we take */
	byte when = 0;		/* next timestamp, kept */
	byte floor = 0;		/* lowest timestamp of the peer that we take, kept */
	byte soon = 0;		/* the same, for 90 s */
	bit asked = 0;		/* the peer cannot reach us: initiate */
	bit forgot = 0		/* crashed once */
}

side host[2];
bit initiation[EXCHANGES], heard[EXCHANGES];	/* sent, arrived */
bit response[ASSOCIATIONS], taken[ASSOCIATIONS];
bit data[2 * ASSOCIATIONS];	/* by sender */
bit crashed = 0;
bit reliable = 0;

#define US host[x]
#define THEM host[1 - x]
#define USES(side, a) ((a) != NONE && (side.previous == (a) || side.current == (a)))
#define HOLDS(side, a) ((a) != NONE && (USES(side, a) || side.pending == (a)))
/* Confirmed on this side. */
#define SURE(side, a) ((a) != NONE && \
	((side.current == (a) && !side.hoping) || side.previous == (a)))
#define BOTH(a) (SURE(host[0], a) && SURE(host[1], a))
#define WORKS (BOTH(host[0].current) || BOTH(host[0].previous))
/* Someone's data arrives, which will confirm what it is under. */
#define WILL (HOLDS(host[1], host[0].current) || HOLDS(host[0], host[1].current))
/* Fifteen seconds will pass without an answer. */
#define DEAF (US.current == NONE || !HOLDS(THEM, US.current))
/* Nor will anything come under what we hope for. */
#define HOPELESS (US.hoping && !data[(1 - x) * ASSOCIATIONS + US.current] && \
	(THEM.previous == US.current || (THEM.pending == US.current && YIELDS(THEM))))

mtype = { start, respond, refuse, conclude, confirm, erase, expire, crash, settle };
#define SHOW(what, a) printf("%d %e %d: previous %d current %d hoping %d pending %d waiting %d\n", \
	x, what, a, US.previous, US.current, US.hoping, US.pending, US.waiting)

/* Data, or a keepalive: what is not sent is what never arrives, so all is. */
#define SEND(side, i) \
	if \
	:: side.current != NONE -> data[(i) * ASSOCIATIONS + side.current] = 1 \
	:: else \
	fi
#define CHECK(side, other) \
	assert(outages || crashed || side.waiting != NONE || side.current == NONE || \
		HOLDS(other, side.current) || !WORKS)
inline done() {
	SEND(US, x);
	CHECK(US, THEM);
	CHECK(THEM, US)
}

inline begin() {
	if
	:: US.waiting == NONE -> US.crossed = 0 /* else a retry */
	:: else
	fi;
	US.waiting = EXCHANGE(x, US.when);
	US.when++;
	US.asked = 0;
	initiation[US.waiting] = 1;
	SHOW(start, US.waiting)
}

/* `a` becomes current. What was, if it was confirmed, still receives. */
inline supersede(a) {
	worked = WORKS;
	if
	:: US.current != NONE && !US.hoping ->
		US.previous = US.current
	:: else
	fi;
	US.current = a;
	assert(outages || crashed || !worked || WORKS || WILL);
	worked = false
}

/* The newer association is the current one: the pending one, once confirmed, or
 * what we initiated after it. */
#define YIELDS(side) (BROKEN(SMALLER_WINS) -> \
	(side.current != NONE && WHO(side.current) == 0 && WHO(side.pending) == 1) : \
	(side.current != NONE && !side.newer && !BROKEN(LAST_WINS)))

inline opened(a) {
	SHOW(confirm, a);
	if
	:: US.pending == a ->
		US.pending = NONE;
		supersede(a);
		US.hoping = 0;
		US.waiting = NONE;
		if
		:: WHEN(OF(a)) >= US.floor -> US.floor = WHEN(OF(a)) + 1
		:: else
		fi
	:: US.current == a && US.hoping ->
		US.hoping = 0;
		US.waiting = NONE
	fi;
	US.asked = 0
}

/* Exchanges that cross: the larger identity gives its own up, the smaller one does
 * not answer, but answers the next: perhaps its own does not arrive at all. */
#define REFUSES (x == 0 && US.waiting != NONE && (!US.crossed || BROKEN(REFUSE_ALL)))
#define GIVES_UP (x == 1 && !BROKEN(KEEP_OWN))
/* A peer that we answered may yet take our RESPONSE: no exchange begins. */
#define PATIENT (BROKEN(NO_PATIENCE) || US.pending == NONE || \
	THEM.waiting != OF(US.pending))
#define FLOOR (US.floor > US.soon || BROKEN(NO_FLOOR) -> US.floor : US.soon)

/* Messages whose arrival changes something are faster than the timers. */
#define IN_FLIGHT ((THEM.hoping && data[x * ASSOCIATIONS + THEM.current]) || \
	(US.hoping && data[(1 - x) * ASSOCIATIONS + US.current]) || \
	(THEM.pending != NONE && !YIELDS(THEM) && data[x * ASSOCIATIONS + THEM.pending]) || \
	(US.pending != NONE && !YIELDS(US) && data[(1 - x) * ASSOCIATIONS + US.pending]) || \
	UNANSWERED)
#define UNANSWERED (US.waiting != NONE && ((initiation[US.waiting] && !heard[US.waiting]) || \
	(response[ASSOCIATION(US.waiting, 0)] && !taken[ASSOCIATION(US.waiting, 0)]) || \
	(response[ASSOCIATION(US.waiting, VERSIONS - 1)] && \
	 !taken[ASSOCIATION(US.waiting, VERSIONS - 1)])))
/* Reception of what the exchanges numbered n by either side have to bring. */
#define RECEIVE(n) \
	INITIATION(EXCHANGE(1 - x, n)) \
	RESPONSE(EXCHANGE(x, n), 0) \
	DATA(ASSOCIATION(EXCHANGE(0, n), 0)) \
	DATA(ASSOCIATION(EXCHANGE(1, n), 0)) \
	RESPONSE(EXCHANGE(x, n), 1) \
	DATA(ASSOCIATION(EXCHANGE(0, n), 1)) \
	DATA(ASSOCIATION(EXCHANGE(1, n), 1))
#define FRESH(e) (initiation[e] && WHEN(e) >= FLOOR && !HOLDS(US, ASSOCIATION(e, US.forgot)))
#define INITIATION(e) \
	:: atomic { FRESH(e) && !REFUSES -> \
		heard[e] = 1; \
		US.soon = WHEN(e) + 1; \
		US.pending = ASSOCIATION(e, US.forgot); \
		US.newer = 1; \
		if \
		:: GIVES_UP -> US.waiting = NONE \
		:: else \
		fi; \
		response[US.pending] = 1; \
		SHOW(respond, US.pending); \
		if \
		:: BROKEN(NO_PENDING) -> \
			supersede(US.pending); \
			US.hoping = 1; \
			US.pending = NONE \
		:: else \
		fi; \
		done() } \
	:: atomic { FRESH(e) && !heard[e] && REFUSES -> \
		heard[e] = 1; \
		US.crossed = 1; \
		SHOW(refuse, e) } \
	:: atomic { initiation[e] && !heard[e] && WHEN(e) < FLOOR -> \
		heard[e] = 1; \
		SHOW(refuse, e); \
		US.asked = ASKS }
#define RESPONSE(e, version) \
	:: atomic { response[ASSOCIATION(e, version)] && US.waiting == (e) -> \
		taken[ASSOCIATION(e, version)] = 1; \
		US.waiting = NONE; \
		US.asked = 0; \
		supersede(ASSOCIATION(e, version)); \
		US.hoping = 1; \
		US.newer = 0; \
		SHOW(conclude, US.current); \
		done() }
#define DATA(a) \
	:: atomic { data[(1 - x) * ASSOCIATIONS + (a)] && ((US.pending == (a) && !YIELDS(US)) || \
	   (US.current == (a) && US.hoping)) -> \
		opened(a); done() }
#define ASKS (DEAF && US.waiting == NONE && !BROKEN(SILENT_FLOOR))
#define TRAFFIC (x == 0 || !one_way)

proctype works(bit x) {
	byte e, a;
	bool worked;

end:	do
	/* at will: renewal, a retry, a packet of an unknown index */
	:: atomic { !reliable && US.when < chaos && PATIENT &&
	   (outages || !US.hoping || !HOLDS(THEM, US.current)) -> begin(); done() }
	/* of need: silence, a retry, or the peer's timestamps are below our floor */
	:: atomic { reliable && US.when < EACH && PATIENT && !IN_FLIGHT &&
	   ((DEAF && TRAFFIC) || HOPELESS || US.asked || US.waiting != NONE) -> begin(); done() }
	RECEIVE(0)
#if EACH > 1
	RECEIVE(1)
#endif
#if EACH > 2
	RECEIVE(2)
#endif
#if EACH > 3
	RECEIVE(3)
#endif
#if EACH > 4
	RECEIVE(4)
#endif
#if EACH > 5
	RECEIVE(5)
#endif
	/* 10 s after the current one was confirmed, for what is still under way */
	:: atomic { US.previous != NONE && !US.hoping ->
		SHOW(erase, US.previous);
		worked = WORKS;
		US.previous = NONE;
		assert(outages || crashed || !worked || WORKS || WILL);
		worked = false;
		done() }
	/* 90 s after RESPONSE */
	:: atomic { US.pending != NONE && !USES(THEM, US.pending) && THEM.waiting != OF(US.pending) ->
		SHOW(expire, US.pending);
		US.pending = NONE;
		done() }
	:: atomic { !reliable && crashes_left > 0 && !US.forgot ->
		SHOW(crash, 0);
		crashes_left--;
		crashed = 1;
		US.forgot = 1;
		US.previous = NONE; US.current = NONE; US.pending = NONE; US.waiting = NONE;
		US.hoping = 0; US.newer = 0; US.crossed = 0; US.soon = 0; US.asked = 0 }
	od
}

init {
	byte i;

	atomic {
		c_code {
			now.variant = setting("VARIANT", 0);
			now.chaos = setting("CHAOS", now.chaos);
			now.crashes_left = setting("CRASHES", 0);
			now.ahead = setting("AHEAD", 0);
			now.one_way = setting("ONE_WAY", 0);
			now.outages = setting("OUTAGES", 0);
		};
		host[1].floor = ahead;
		run works(0);
		run works(1)
	}
	/* the network becomes reliable; what was in flight is lost, or not */
	atomic {
		reliable = 1;
		if
		:: true
		:: true ->
			for (i : 0 .. EXCHANGES - 1) { initiation[i] = 0 }
			for (i : 0 .. ASSOCIATIONS - 1) {
				response[i] = 0;
				data[i] = 0;
				data[ASSOCIATIONS + i] = 0
			}
			i = 0
		fi;
		SEND(host[0], 0);
		SEND(host[1], 1)
	}
	timeout;
	assert(host[0].current != NONE && host[0].current == host[1].current);
	assert(!host[0].hoping && !host[1].hoping)
}
