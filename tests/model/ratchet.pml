/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The ratchet of one association between two hosts: docs/protocol.md, "The
 * ratchet". One step of this model is one packet handled or one run of the
 * `control` program; slots.pml looks inside those.
 *
 * The network is a set. What was sealed may arrive at any later time, in any
 * order, any number of times, or never: loss, delay, reordering, duplication
 * and withholding by an attacker at once. (A replay window only takes arrivals
 * away.) An attacker may also spoil the body of an announcement, whose header
 * still carries a good key, and the key of one whose pair is known already.
 *
 * At some moment, chosen freely, the network becomes reliable: nobody rotates
 * any more, and what is sealed from then on arrives. What was in flight arrives
 * or is lost, again chosen freely. Every step makes something grow that is
 * bounded, so every run ends, and where it ends everything must be proved.
 *
 * Timers are guards on what they wait for. None is needed for more than letting
 * packets under way arrive.
 *
 * Claims: a pair is installed at most once, into a slot that is free; what is
 * sealed, data or announcement, can be opened by the other side as it is at
 * that moment; keys erased are not used; in the end every generation is proved,
 * adopted by the other side, used, and the older one erased.
 */
#include "settings.h"

#ifndef LAST
#define LAST 2 /* highest generation that each side makes: 2 uses the slots of 0 */
#endif
#define GENERATIONS 4
#define EMPTY 255

/* Deliberately broken variants, each of which must be caught. */
#define SEND_CURRENT 1	   /* data goes out on an own generation not yet proved */
#define ROTATE_EARLY 2	   /* g + 1 is made before g - 1 is erased */
#define RETIRE_UNPROVED 3  /* g - 1 is erased before g is proved */
#define RETIRE_LAGGING 4   /* g - 1 is erased while data still goes out on it */
#define FORGET_EARLY 5	   /* the peer's g - 1 is forgotten when g is adopted */
#define REMEMBER 6	   /* its key makes pairs after their boxes were wiped */
#define NO_DERIVE 7	   /* only packets derive what crossing rotations leave out */
#define NO_CROSSING 8	   /* nothing derives that */
#define ADOPT_PACKET_KEY 9 /* the key adopted is the packet's, not the box's */
#define WRAP 10		   /* generation numbers wrap */
#define FOLLOW_EARLY 11	   /* data moves to a pair of which no packet has come */
#define ANNOUNCE_UNPROVED 12 /* a key is announced until it is proved, and no longer */
#define RETIRE_UNUSED 13   /* g - 1 is erased though no DATA has come to g */
byte variant = 0;
#define BROKEN(name) (variant == name)

typedef side {
	byte current = 0;	/* own generation made last */
	byte proved = 0;	/* own generation proved last */
	byte oldest = 0;	/* own generation whose private key is still held */
	byte adopted = 0;	/* the peer's generation adopted last */
	byte send_own = 0;	/* the pair that data is sealed on */
	byte send_peer = 0;
	bit used = 1;		/* the peer has sent DATA to `current` */
	bit moved = 0;		/* the peer has sent DATA of `adopted` */
	bit held = 0;		/* the key of `adopted` - 1 may still make pairs */
	bit busy = 0;		/* a packet in the network would change something here */
	bit foreign = 0;	/* adopted a key that is not the peer's */
	byte box[4] = EMPTY;	/* by own & 1, peer & 1: own * GENERATIONS + peer */
	bit once[16] = 0;	/* pairs that were ever installed */
	bit data[16] = 0;	/* sealed as DATA: own * GENERATIONS + peer */
	bit keyed[16] = 0	/* sealed as DATA_KEYED */
}

side host[2];
bit reliable = 0;
byte i, h, g;

#define US host[x]
#define THEM host[1 - x]
#define PARITY(own, peer) (((own) & 1) * 2 + ((peer) & 1))
#define AT(own, peer) ((own) * GENERATIONS + (peer))
#define NEXT(g) (BROKEN(WRAP) -> ((g) + 1) % GENERATIONS : (g) + 1)
#define OLDER(old, g) (NEXT(NEXT(old)) == (g))

#define HAS(side, own, peer) (side.box[PARITY(own, peer)] == AT(own, peer))
#define HOLDS(side, own) (own == side.current || own == side.oldest)
#define HELD(side, peer) (peer == side.adopted || \
	((side.held || BROKEN(REMEMBER)) && NEXT(peer) == side.adopted))
/* The slot is free for the pair, or holds one of the peer's two generations ago. */
#define FREE(own, peer) (US.box[PARITY(own, peer)] == EMPTY || \
	(US.box[PARITY(own, peer)] / GENERATIONS == (own) && \
	 OLDER(US.box[PARITY(own, peer)] % GENERATIONS, peer)))

/* Would the other side open, as it is now, what is sealed on (own, peer)? A pair
 * yet to be made would not do: packets that come while it is being made are lost.
 * Would it open an announcement? */
#define OPENS(other, own, peer) HAS(other, peer, own)
#define LEARNS(other, own, peer) (HAS(other, peer, own) || (HOLDS(other, peer) && \
	(HELD(other, own) || own == NEXT(other.adopted))))

mtype = { rotate, derive, receive, spoilt, retire_own, retire_peer };
#define SHOW(what) printf("%d %e: current %d proved %d oldest %d adopted %d send %d.%d\n", \
	x, what, US.current, US.proved, US.oldest, US.adopted, US.send_own, US.send_peer)

inline install(own, peer) {
	assert(FREE(own, peer));
	assert(HOLDS(US, own));
	assert(!US.once[AT(own, peer)]);
	US.once[AT(own, peer)] = 1;
	US.box[PARITY(own, peer)] = AT(own, peer)
}

#define TARGET_OWN (BROKEN(SEND_CURRENT) -> US.current : US.proved)
/* Move the sending pair to what is proved and adopted, once a packet of that pair
 * has opened: so the other side has it, too. */
#define FOLLOWS(own, peer) (own == TARGET_OWN && peer == US.adopted)
inline follow(own, peer) {
	if
	:: FOLLOWS(own, peer) || BROKEN(SEND_CURRENT) -> move()
	:: else
	fi
}
inline move() {
	if
	:: HAS(US, TARGET_OWN, US.adopted) ->
		US.send_own = TARGET_OWN;
		US.send_peer = US.adopted
	:: else
	fi
}
inline made() {
	if
	:: BROKEN(FOLLOW_EARLY) -> move()
	:: else
	fi
}

/* Wipe the boxes of these generations. */
#define WIPE(condition) \
	for (i : 0 .. 3) { \
		if \
		:: US.box[i] != EMPTY && (condition) -> US.box[i] = EMPTY \
		:: else \
		fi \
	} \
	i = 0
#define BOX_OWN (US.box[i] / GENERATIONS)
#define BOX_PEER (US.box[i] % GENERATIONS)

/* What a new generation is announced to. */
#define ANNOUNCED(side) (BROKEN(NO_DERIVE) || BROKEN(NO_CROSSING) -> \
	(HAS(side, side.current, side.adopted) -> side.adopted : \
	 (side.adopted + GENERATIONS - 1) % GENERATIONS) : side.adopted)
#define SENDS_NEWEST(side) (side.send_own == side.current && side.send_peer == side.adopted)
#define ANNOUNCES(side) ((side.current != side.proved || (!BROKEN(ANNOUNCE_UNPROVED) && \
	(!side.used || !SENDS_NEWEST(side)))) && HAS(side, side.current, ANNOUNCED(side)))

/* Data, or a keepalive, and an announcement if there is one to make. What is not
 * sent is what never arrives, so all that can be sent is. */
#define SEND(side) \
	side.data[AT(side.send_own, side.send_peer)] = 1; \
	side.keyed[AT(side.current, ANNOUNCED(side))] = \
		side.keyed[AT(side.current, ANNOUNCED(side))] || ANNOUNCES(side)

/* What is sealed can be opened, not only when the pair is new. */
#define CHECK(side, other) \
	assert(HAS(side, side.send_own, side.send_peer)); \
	assert(OPENS(other, side.send_own, side.send_peer)); \
	assert(!ANNOUNCES(side) || LEARNS(other, side.current, ANNOUNCED(side)))

/* Their packet, from their generation h to ours, g. Which of an unknown pair may
 * make it known: */
#define UNKNOWN(h, g, is_keyed) (FREE(g, h) && HOLDS(US, g) && \
	((is_keyed && h == NEXT(US.adopted) && US.send_peer == US.adopted) || \
	 (HELD(US, h) && !BROKEN(NO_CROSSING))))
#define KNOWN(h, g, is_keyed) (HAS(US, g, h) && (is_keyed || h != NEXT(US.adopted)))
/* A packet of a known pair that would change nothing need not be looked at. */
#define TEACHES(h, g, is_keyed) (KNOWN(h, g, is_keyed) && (h == NEXT(US.adopted) || \
	(g == US.current && (US.proved != g || (!is_keyed && !US.used))) || \
	(FOLLOWS(g, h) && (US.send_own != g || US.send_peer != h)) || \
	(!is_keyed && h == US.adopted && !US.moved)))
#define CHANGES(h, g, is_keyed) (UNKNOWN(h, g, is_keyed) || TEACHES(h, g, is_keyed))
/* Whether anything in the network would change host[x]. */
inline look(x) {
	US.busy = 0;
	for (h : 0 .. GENERATIONS - 1) {
		for (g : 0 .. GENERATIONS - 1) {
			if
			:: (THEM.data[AT(h, g)] && CHANGES(h, g, false)) ||
			   (THEM.keyed[AT(h, g)] && CHANGES(h, g, true)) -> US.busy = 1
			:: else
			fi
		}
	}
	h = 0;
	g = 0
}

inline done() {
	SEND(US);
	CHECK(US, THEM);
	CHECK(THEM, US);
	d_step { look(0); look(1) }
}

inline opened() {
	if
	:: h == NEXT(US.adopted) ->
		US.adopted = h;
		US.moved = 0;
		US.held = 1;
		if
		:: BROKEN(FORGET_EARLY) ->
			US.held = 0;
			WIPE(BOX_PEER != h)
		:: else
		fi
	:: else
	fi;
	if
	:: g == US.current ->
		US.proved = g;
		US.used = US.used || !is_keyed
	:: else
	fi;
	if
	:: !is_keyed && h == US.adopted -> US.moved = 1
	:: else
	fi;
	follow(g, h)
}

#define FOLLOWED SENDS_NEWEST(US)

proctype works(bit x) {
	bool is_keyed;

end:	do
	/* control ROTATE */
	:: atomic { !reliable && (US.current < LAST || BROKEN(WRAP)) && US.proved == US.current &&
	   (US.oldest == US.current || BROKEN(ROTATE_EARLY)) && FOLLOWED ->
		SHOW(rotate);
		US.oldest = US.current;
		US.current = NEXT(US.current);
		US.used = 0;
		if
		:: BROKEN(NO_DERIVE) || BROKEN(NO_CROSSING) -> install(US.current, US.adopted)
		:: else
		fi;
		done() }
	/* control DERIVE */
	:: atomic { !BROKEN(NO_DERIVE) && !BROKEN(NO_CROSSING) &&
	   !HAS(US, US.current, US.adopted) ->
		SHOW(derive);
		install(US.current, US.adopted);
		made();
		done() }
	/* control RETIRE: 10 s after DATA came to `current` */
	:: atomic { US.oldest != US.current &&
	   (US.proved == US.current || BROKEN(RETIRE_UNPROVED)) &&
	   (US.used || BROKEN(RETIRE_UNUSED) || BROKEN(RETIRE_UNPROVED)) &&
	   (FOLLOWED || BROKEN(RETIRE_LAGGING) || BROKEN(RETIRE_UNPROVED)) ->
		SHOW(retire_own);
		US.oldest = US.current;
		WIPE(BOX_OWN != US.current);
		done() }
	/* control RETIRE: 10 s after the peer moved */
	:: atomic { US.moved && US.held && US.send_peer == US.adopted ->
		SHOW(retire_peer);
		US.held = 0;
		WIPE(BOX_PEER != US.adopted && BOX_PEER != NEXT(US.adopted));
		done() }
	/* open */
	:: atomic { US.busy ->
		if
		:: h = 0
		:: h = 1
		:: h = 2
		:: h = 3
		fi;
		if
		:: g = 0
		:: g = 1
		:: g = 2
		:: g = 3
		fi;
		if
		:: THEM.data[AT(h, g)] && CHANGES(h, g, false)
		:: THEM.keyed[AT(h, g)] && CHANGES(h, g, true) -> is_keyed = true
		:: else -> goto other /* choose again */
		fi;
		SHOW(receive);
		printf("    theirs %d ours %d keyed %d\n", h, g, is_keyed);
		if
		:: HAS(US, g, h) ->
			if
			:: BROKEN(ADOPT_PACKET_KEY) && h == NEXT(US.adopted) ->
				US.foreign = 1 /* its pair is known, its header tag not looked at */
			:: else
			fi
		:: else ->
			install(g, h);
			made();
			if
			:: is_keyed -> SHOW(spoilt); goto sealed
			:: true
			fi
		fi;
		opened();
sealed:		done();
other:		h = 0;
		g = 0;
		is_keyed = false }
	od
}

#define SETTLED(side, other) (side.proved == side.current && \
	side.oldest == side.current && side.used && side.send_own == side.current && \
	side.adopted == other.current && side.send_peer == other.current && !side.foreign)

init {
	atomic {
		c_code { now.variant = setting("VARIANT", 0); };
		for (i : 0 .. 1) {
			host[i].box[0] = AT(0, 0);
			host[i].once[AT(0, 0)] = 1;
			SEND(host[i])
		}
		i = 0;
		run works(0);
		run works(1)
	}
	/* the network becomes reliable */
	atomic {
		reliable = 1;
		if
		:: true /* what was in flight still arrives */
		:: true -> /* or is lost */
			for (i : 0 .. 15) {
				host[0].data[i] = 0;
				host[0].keyed[i] = 0;
				host[1].data[i] = 0;
				host[1].keyed[i] = 0
			}
			i = 0
		fi;
		SEND(host[0]);
		SEND(host[1]);
		look(0);
		look(1)
	}
	timeout;
	assert(SETTLED(host[0], host[1]));
	assert(SETTLED(host[1], host[0]))
}
