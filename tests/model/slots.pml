/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Inside one host: `open` on several CPUs, `seal` on several CPUs and the
 * `control` program, all on the box slots of one association number.
 * docs/protocol.md, "The pair lock". One step of this model is one access to
 * memory that other CPUs see: a load, a store, one compare-and-swap.
 *
 * There is no time in it: a CPU may sleep between any two steps for as long as
 * it likes. What holds here does not lean on the ten-second rules.
 *
 * The peer is not trusted to follow the protocol: any packet it could ever
 * seal, or anyone replay, arrives at any time, any number of times.
 *
 * Claims: a pair is installed at most once; no key is derived from an erased or
 * half-written one; (sub-key, counter) is never used twice; a sub-key used is
 * whole; nothing is delivered twice; the pair data is sealed on has its box.
 */
#include "settings.h"

#ifndef INSTANCES
#define INSTANCES 1 /* of the association number: above 1, it is erased and used again */
#endif
/* Told when run: */
byte openers = 1, sealers = 1, packets = 2, seals = 2; /* CPUs, and what each does */
byte own_last = 1, peer_last = 1; /* generations: 2 uses the slots of 0 */

/* Deliberately broken variants, each of which must be caught. */
#define NO_REREAD 1	 /* the generations are not read again after claiming */
#define REREAD_EARLY 2	 /* they are, but before the keys are copied */
#define WIPE_FIRST 3	 /* RETIRE wipes before it moves the generations */
#define NO_SEAL_CHECK 4	 /* seal does not look at the box again */
#define COUNT_FIRST 5	 /* seal draws its counter before it looks at the box */
#define NO_OPEN_CHECK 6	 /* open does not look at the box again after marking */
#define NO_SERIAL 7	 /* a slot claimed again looks as it did before */
#define NO_INSTANCE 8	 /* so does an association number used again */
#define NO_ADOPTING 9	 /* two CPUs may write the adopted key */
#define LEAVE_LAG 10	 /* a packet moves the sending pair only if it moves more than that */
#define REMEMBER 11	 /* the peer's previous key makes pairs after its boxes went */
#define LOCK_ANYTHING 12 /* RETIRE locks what is in the slot, not what it judged */
byte variant = 0;
#define BROKEN(name) (variant == name)

#define GENERATIONS 3
#define COUNTS 7 /* two sealers of three packets, and one more */
#define NONE 255

/* The ratchet word. */
#define UNPROVED 1
#define OWN_PREVIOUS 2
#define PEER_PREVIOUS 4
#define ADOPTING 8
#define WORD(own, peer, send_own, send_peer, flags, instance) \
	((own) | (peer) << 2 | (send_own) << 4 | (send_peer) << 6 | (flags) << 8 | (instance) << 12)
#define OWN(w) ((w) & 3)
#define PEER(w) ((w) >> 2 & 3)
#define SEND_OWN(w) ((w) >> 4 & 3)
#define SEND_PEER(w) ((w) >> 6 & 3)
#define SEND(w) ((w) >> 4 & 15)
#define HAS(w, flag) (((w) >> 8 & (flag)) != 0)
#define SET(flag) ((flag) << 8)
#define INSTANCE(w) ((w) >> 12)
#define PROVED(w) (OWN(w) - ((w) >> 8 & UNPROVED))
#define TARGET(w) (PROVED(w) | PEER(w) << 2)
#define SAME(w, v) (BROKEN(NO_INSTANCE) || INSTANCE(w) == INSTANCE(v))

/* The word of a box slot. */
#define EMPTY 0
#define CLAIMED 1
#define PUBLISHED 2
#define BOX(state, own, peer, serial) ((state) | (own) << 2 | (peer) << 4 | (serial) << 6)
#define STATE(b) ((b) & 3)
#define IS(b, state, own, peer) (((b) & 63) == BOX(state, own, peer, 0))
#define SERIAL(b) ((b) >> 6)
#define LATER(b) (SERIAL(b) + (BROKEN(NO_SERIAL) -> 0 : 1))
#define SLOT(own, peer) (((own) & 1) * 2 + ((peer) & 1))
#define KEY(instance, own, peer) (((instance) * GENERATIONS + (own)) * GENERATIONS + (peer))
#define KEYS (INSTANCES * GENERATIONS * GENERATIONS)

#define HELD(w, own) ((own) == OWN(w) || ((own) + 1 == OWN(w) && HAS(w, OWN_PREVIOUS)))
#define LEGAL(w, own, peer, keyed) (HELD(w, own) && \
	 ((peer) == PEER(w) || \
	  ((peer) + 1 == PEER(w) && (HAS(w, PEER_PREVIOUS) || BROKEN(REMEMBER))) || \
	  ((peer) == PEER(w) + 1 && (keyed) && SEND_PEER(w) == PEER(w) && !HAS(w, ADOPTING))))

short word = WORD(0, 0, 0, 0, 0, 0);
short receive[4], send[4];	/* words of the slots, both by SLOT(own, peer) */
byte receive_key[4] = NONE;	/* sub-keys, named by KEY */
byte receive_peer[4] = NONE;	/* the peer's key that they were made of */
byte send_low[4] = NONE, send_high[4] = NONE; /* copies take more than one load */
byte counter[4];
bit marked[4];			/* the window: of each box, one packet */
byte own_key[2] = NONE, peer_key[2] = NONE; /* generation; of the instance: */
byte own_instance[2], peer_instance[2];
bit living = 1;

/* History. */
bit installed[KEYS];
bit delivered[KEYS];
bit used[KEYS * COUNTS];
bit missed; /* a packet came while another CPU was adopting: it is for the next to follow */

#define SWAP(variable, from, to, won) \
	atomic { won = (variable == from); if :: won -> variable = to :: else fi }

/* Move the sending pair to (proved, adopted) if that is the pair of the packet. */
inline follow(w0, w, own, peer, ok) {
	do
	:: atomic { w = word; missed = missed || HAS(w, ADOPTING) };
	   if
	   :: SEND(w) == TARGET(w) || !SAME(w, w0) -> break
	   :: else
	   fi;
	   if
	   :: own != PROVED(w) || peer != PEER(w) -> break
	   :: else
	   fi;
	   SWAP(word, w, (w & ~(15 << 4)) | TARGET(w) << 4, ok);
	od;
	w = 0; ok = false
}

/* Holding the claim: derive, write, publish. */
inline fill(slot, own, peer, k) {
	assert(!installed[k]);
	installed[k] = 1;
	send[slot] = BOX(CLAIMED, own, peer, LATER(send[slot]));
	counter[slot] = 0;
	send_low[slot] = k;
	send_high[slot] = k;
	send[slot] = BOX(PUBLISHED, own, peer, SERIAL(send[slot]));
	marked[slot] = 0;
	atomic { receive_key[slot] = k; receive_peer[slot] = peer };
	receive[slot] = BOX(PUBLISHED, own, peer, SERIAL(receive[slot]))
}

inline clear(slot) {
	send[slot] = BOX(CLAIMED, 0, 0, LATER(send[slot]));
	send_low[slot] = NONE;
	send_high[slot] = NONE;
	send[slot] = BOX(EMPTY, 0, 0, SERIAL(send[slot]));
	atomic { receive_key[slot] = NONE; receive_peer[slot] = NONE };
	receive[slot] = BOX(EMPTY, 0, 0, SERIAL(receive[slot]))
}

#define REREAD(w, own, peer, keyed) (BROKEN(NO_REREAD) || LEGAL(w, own, peer, keyed))

/* pair_claim: ok says whether we installed the pair. `b` is the slot's word as
 * it was when the pair was found missing. */
inline claim(slot, own, peer, keyed, w0, b, w, mine, theirs, ok) {
	if
	:: STATE(b) == EMPTY || (STATE(b) == PUBLISHED &&
	   (b >> 2 & 3) == own && (b >> 4 & 3) + 2 == peer) ->
		SWAP(receive[slot], b, BOX(CLAIMED, own, peer, LATER(b)), ok)
	:: else -> ok = false
	fi;
	if
	:: ok ->
		w = word;
		atomic { mine = own_key[own & 1];
		if
		:: own_instance[own & 1] != INSTANCE(w0) -> mine = NONE
		:: else
		fi };
		if
		:: atomic { peer == PEER(w0) + 1 -> theirs = peer }
		:: atomic { else -> theirs = peer_key[peer & 1];
		   if
		   :: peer_instance[peer & 1] != INSTANCE(w0) -> theirs = NONE
		   :: else
		   fi }
		fi;
		if
		:: BROKEN(REREAD_EARLY)
		:: else -> w = word
		fi;
		if
		:: SAME(w, w0) && REREAD(w, own, peer, keyed) ->
			assert(mine == own);
			assert(theirs == peer);
			fill(slot, own, peer, KEY(INSTANCE(w0), own, peer))
		:: else ->
			clear(slot);
			ok = false
		fi
	:: else
	fi;
	mine = 0; theirs = 0; w = 0
}

/* The packet: from their generation `peer` to ours, `own`. */
proctype opener() {
	byte seen, own, peer, instance, slot, key, mine, theirs;
	bool keyed, ok, adopt, prove;
	short w, w0, b;

end:	do
	:: seen < packets ->
		seen++;
		atomic {
			select(own : 0 .. own_last);
			select(peer : 0 .. peer_last);
			select(instance : 0 .. INSTANCES - 1);
			if
			:: keyed = true
			:: keyed = false
			fi;
			slot = SLOT(own, peer);
			living -> w0 = word
		}
		b = receive[slot];
		if
		:: IS(b, PUBLISHED, own, peer) && (keyed || peer != PEER(w0) + 1)
		:: !IS(b, PUBLISHED, own, peer) && LEGAL(w0, own, peer, keyed) ->
			claim(slot, own, peer, keyed, w0, b, w, mine, theirs, ok);
			if
			:: ok ->
				b = BOX(PUBLISHED, own, peer, LATER(b))
			:: else -> goto done
			fi
		:: else -> goto done
		fi;
		/* replay_fresh, sub-key, Poly1305 */
		if
		:: marked[slot] -> goto done
		:: else
		fi;
		atomic { key = receive_key[slot]; theirs = receive_peer[slot] };
		if
		:: key != KEY(instance, own, peer) -> goto done
		:: else
		fi;
		atomic {
			if
			:: marked[slot] -> goto done
			:: else -> marked[slot] = 1
			fi
		}
		if
		:: receive[slot] != b && !BROKEN(NO_OPEN_CHECK) -> goto done
		:: else
		fi;
		atomic {
			assert(!delivered[KEY(instance, own, peer)]);
			delivered[KEY(instance, own, peer)] = 1
		}
		do
		:: w = word;
		   if
		   :: !SAME(w, w0) -> break
		   :: else
		   fi;
		   adopt = peer == PEER(w) + 1 && !HAS(w, ADOPTING);
		   prove = own == OWN(w) && HAS(w, UNPROVED);
		   if
		   :: !adopt && !prove -> break
		   :: else
		   fi;
		   if
		   :: BROKEN(NO_ADOPTING) ->
			if
			:: adopt -> peer_key[peer & 1] = peer
			:: else
			fi;
			SWAP(word, w, ((w & ~(prove -> SET(UNPROVED) : 0)) + (adopt -> 4 : 0)) | \
				(adopt -> SET(PEER_PREVIOUS) : 0), ok)
		   :: else ->
			SWAP(word, w, (w & ~(prove -> SET(UNPROVED) : 0) & \
				~(adopt -> SET(PEER_PREVIOUS) : 0)) | (adopt -> SET(ADOPTING) : 0), ok)
		   fi;
		   if
		   :: !ok
		   :: ok && !adopt -> break
		   :: ok && adopt ->
			if
			:: BROKEN(NO_ADOPTING)
			:: else ->
				assert(peer == theirs);
				atomic { peer_key[peer & 1] = theirs;
					peer_instance[peer & 1] = INSTANCE(w) }
				word = word + 4 + SET(PEER_PREVIOUS) - SET(ADOPTING)
			fi;
			break
		   fi
		od;
		if
		:: adopt || prove || !BROKEN(LEAVE_LAG) -> follow(w0, w, own, peer, ok)
		:: else
		fi;
done:		atomic {
			w = 0; w0 = 0; b = 0; own = 0; peer = 0; instance = 0; slot = 0;
			key = 0; mine = 0; theirs = 0; keyed = false; ok = false;
			adopt = false; prove = false
		}
	:: seen == packets -> break
	od
}

inline draw(number, slot) {
	atomic { number = counter[slot]; counter[slot]++ }
}

proctype sealer() {
	byte sealed, low, high, number, slot;
	short w, b;

end:	do
	:: sealed < seals ->
		sealed++;
		w = word;
		slot = SLOT(SEND_OWN(w), SEND_PEER(w));
		if
		:: BROKEN(COUNT_FIRST) -> draw(number, slot)
		:: else
		fi;
		b = send[slot];
		if
		:: !IS(b, PUBLISHED, SEND_OWN(w), SEND_PEER(w)) -> goto done
		:: else
		fi;
		if
		:: BROKEN(COUNT_FIRST)
		:: else -> draw(number, slot)
		fi;
		low = send_low[slot];
		high = send_high[slot];
		if
		:: send[slot] != b && !BROKEN(NO_SEAL_CHECK) -> goto done
		:: else
		fi;
		atomic {
			assert(low == high);
			assert(low != NONE);
			assert(!used[low * COUNTS + number]);
			used[low * COUNTS + number] = 1
		}
done:		atomic { w = 0; b = 0; low = 0; high = 0; number = 0; slot = 0 }
	:: sealed == seals -> break
	od
}

/* Lock a pair that must go, as judged by `b`. ok: it is locked, or was empty. */
inline lock(slot, b, ok) {
	if
	:: STATE(b) == EMPTY -> ok = true
	:: STATE(b) == CLAIMED -> ok = false
	:: STATE(b) == PUBLISHED ->
		SWAP(receive[slot], b, BOX(CLAIMED, 0, 0, LATER(b)), ok);
	fi
}

#define EMPTY_OWN(own) (STATE(receive[SLOT(own, 0)]) == EMPTY && \
	STATE(receive[SLOT(own, 1)]) == EMPTY && STATE(send[SLOT(own, 0)]) == EMPTY && \
	STATE(send[SLOT(own, 1)]) == EMPTY)
#define FOLLOWED(w) (SEND_OWN(w) == OWN(w) && SEND_PEER(w) == PEER(w))

proctype control() {
	byte own, peer, slot, mine, theirs, i;
	bool ok, all;
	short w, w0, b;

end:	do
	/* ROTATE */
	:: atomic { living && OWN(word) < own_last && !HAS(word, UNPROVED) &&
	   !HAS(word, ADOPTING) && !HAS(word, OWN_PREVIOUS) && FOLLOWED(word) && EMPTY_OWN(OWN(word) + 1) &&
	   own_key[(OWN(word) + 1) & 1] == NONE -> w = word }
		atomic { own_key[(OWN(w) + 1) & 1] = OWN(w) + 1;
			own_instance[(OWN(w) + 1) & 1] = INSTANCE(w) }
		SWAP(word, w, (w + 1) | SET(UNPROVED) | SET(OWN_PREVIOUS), ok);
		if
		:: !ok -> own_key[(OWN(w) + 1) & 1] = NONE
		:: else
		fi;
		w = 0; ok = false
	/* DERIVE */
	:: atomic { living && !IS(receive[SLOT(OWN(word), PEER(word))], PUBLISHED,
	   OWN(word), PEER(word)) -> w0 = word }
		own = OWN(w0); peer = PEER(w0); slot = SLOT(own, peer);
		b = receive[slot];
		if
		:: !IS(b, PUBLISHED, own, peer) ->
			claim(slot, own, peer, false, w0, b, w, mine, theirs, ok)
		:: else
		fi;
		atomic { w0 = 0; b = 0; own = 0; peer = 0; slot = 0; ok = false }
	/* RETIRE, own */
	:: atomic { living && !HAS(word, UNPROVED) && !HAS(word, ADOPTING) && FOLLOWED(word) &&
	   (HAS(word, OWN_PREVIOUS) || (OWN(word) > 0 && own_key[(OWN(word) + 1) & 1] != NONE)) ->
		w = word }
		if
		:: BROKEN(WIPE_FIRST) -> ok = true
		:: !BROKEN(WIPE_FIRST) && HAS(w, OWN_PREVIOUS) -> SWAP(word, w, w & ~SET(OWN_PREVIOUS), ok)
		:: else -> ok = true
		fi;
		if
		:: ok ->
			own = OWN(w) - 1;
			all = true;
			for (i : 0 .. 1) {
				slot = SLOT(own, i);
				b = receive[slot];
				lock(slot, b, ok);
				all = all && ok;
				if
				:: ok && STATE(b) == PUBLISHED -> clear(slot)
				:: else
				fi
			}
			if
			:: all -> own_key[own & 1] = NONE
			:: else
			fi;
			if
			:: BROKEN(WIPE_FIRST) -> SWAP(word, w, w & ~SET(OWN_PREVIOUS), ok)
			:: else
			fi
		:: else
		fi;
		atomic { w = 0; b = 0; own = 0; slot = 0; i = 0; ok = false; all = false }
	/* RETIRE, peer */
	:: atomic { living && HAS(word, PEER_PREVIOUS) && SEND_PEER(word) == PEER(word) ->
		w = word }
		SWAP(word, w, w & ~SET(PEER_PREVIOUS), ok);
		if
		:: ok ->
			for (i : 0 .. 3) {
				b = receive[i];
				if
				:: STATE(b) == PUBLISHED && (b >> 4 & 3) < PEER(w) ->
					if
					:: BROKEN(LOCK_ANYTHING) -> b = receive[i]
					:: else
					fi;
					lock(i, b, ok);
					if
					:: ok && STATE(b) == PUBLISHED -> clear(i)
					:: else
					fi
				:: else
				fi
			}
		:: else
		fi;
		atomic { w = 0; b = 0; i = 0; ok = false }
#if INSTANCES > 1
	/* ERASE and INSTALL */
	:: atomic { living && INSTANCE(word) + 1 < INSTANCES && !HAS(word, ADOPTING) -> living = 0; w = word }
		if
		:: BROKEN(NO_INSTANCE) -> ok = true
		:: else -> SWAP(word, w, w + (1 << 12), ok)
		fi;
		all = true;
		for (i : 0 .. 3) {
			if
			:: ok ->
			   	do
				:: b = receive[i];
				   lock(i, b, ok);
				   if
				   :: ok -> break
				   :: else
				   fi
				od;
				if
				:: STATE(b) == PUBLISHED -> clear(i)
				:: else
				fi
			:: else
			fi
		}
		if
		:: ok ->
			own_key[0] = NONE; own_key[1] = NONE;
			peer_key[0] = NONE; peer_key[1] = NONE;
			atomic { own_key[0] = 0; own_instance[0] = INSTANCE(w) + 1;
				peer_key[0] = 0; peer_instance[0] = INSTANCE(w) + 1 }
			do
			:: b = receive[0];
			   if
			   :: STATE(b) == EMPTY ->
				SWAP(receive[0], b, BOX(CLAIMED, 0, 0, LATER(b)), ok);
				if
				:: ok -> break
				:: else
				fi
			   :: else /* an opener of the old instance will let go of it */
			   fi
			od;
			word = WORD(0, 0, 0, 0, 0, INSTANCE(w) + 1);
			fill(0, 0, 0, KEY(INSTANCE(w) + 1, 0, 0))
		:: else
		fi;
		living = 1;
		atomic { w = 0; b = 0; i = 0; ok = false; all = false }
#endif
	od
}

init {
	atomic {
		c_code {
			now.variant = setting("VARIANT", 0);
			now.openers = setting("OPENERS", now.openers);
			now.sealers = setting("SEALERS", now.sealers);
			now.packets = setting("PACKETS", now.packets);
			now.seals = setting("SEALS", now.seals);
			now.own_last = setting("OWN_LAST", now.own_last);
			now.peer_last = setting("PEER_LAST", now.peer_last);
		};
		own_key[0] = 0;
		peer_key[0] = 0;
		installed[KEY(0, 0, 0)] = 1;
		send_low[0] = KEY(0, 0, 0);
		send_high[0] = KEY(0, 0, 0);
		receive_key[0] = KEY(0, 0, 0);
		receive_peer[0] = 0;
		send[0] = BOX(PUBLISHED, 0, 0, 0);
		receive[0] = BOX(PUBLISHED, 0, 0, 0);
		run control();
		if
		:: openers > 0 -> run opener()
		:: else
		fi;
		if
		:: openers > 1 -> run opener()
		:: else
		fi;
		if
		:: sealers > 0 -> run sealer()
		:: else
		fi;
		if
		:: sealers > 1 -> run sealer()
		:: else
		fi
	}
	/* Whatever is going on, data has a box to go out on. */
end:	do
	:: atomic { living && !IS(send[SLOT(SEND_OWN(word), SEND_PEER(word))], PUBLISHED, SEND_OWN(word), SEND_PEER(word)) -> assert(false) }
	:: timeout -> assert(SEND(word) == TARGET(word) || missed ||
		!delivered[KEY(INSTANCE(word), PROVED(word), PEER(word))]); break
	od
}
