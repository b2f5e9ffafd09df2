/**
 * Random descriptors against a reference that says in a few lines which frames they are; and
 * descriptors of random words, which harm nothing.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BUFFERS, pattern, RingsRig, RX_RING, TX_RING } from '../../../../tests/kit/82576/rings-rig.ts';
import { Reg, Srrctl } from '../../../abi/82576.ts';
import { RxStatus, TxCommand, TxStatus } from '../../../abi/82576-descriptors.ts';

const ENTRIES = 16;

describe('house: rings of random contents', () => {
  test('packets of random pieces, over random doorbells, are the frames that they should be', () => {
    const packet = fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 30 }), fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1 }), (packets, steps) => {
        const rig = new RingsRig();
        rig.startTransmit(0, ENTRIES);
        const source = pattern(4000, 3);
        rig.store(BUFFERS, source);
        const expected: Uint8Array[] = [];
        const pieces: { at: number; size: number; last: boolean }[] = [];
        for (const sizes of packets) {
          let at = 0;
          for (const [i, size] of sizes.entries()) {
            pieces.push({ at, size, last: i + 1 === sizes.length });
            at += size;
          }
          if (at >= 14) expected.push(Uint8Array.of(...source.subarray(0, at), ...new Uint8Array(Math.max(0, 60 - at))));
        }
        let tail = 0;
        for (let step = 0; pieces.length > 0; step++) {
          // The ring is empty after each doorbell: it never overflows.
          for (const { at, size, last } of pieces.splice(0, steps[step % steps.length]!)) {
            rig.putData(tail, BUFFERS + at, size, last ? TxCommand.EOP | TxCommand.RS : 0);
            tail = (tail + 1) % ENTRIES;
          }
          rig.ring(tail);
          expect(rig.read(Reg.TDH)).toBe(tail);
        }
        expect(rig.sent.map(({ bytes }) => bytes)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  test('frames of random lengths fill buffers of random sizes in order, and none is lost uncounted', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 60, max: 5000 }), { minLength: 1, maxLength: 40 }),
        fc.constantFrom(1024, 2048, 4096),
        fc.boolean(),
        (lengths, size, drops) => {
          const rig = new RingsRig();
          rig.startReceive(0, ENTRIES, { size, srrctl: drops ? (Srrctl.ADV_ONE_BUFFER | Srrctl.DROP_EN) >>> 0 : Srrctl.ADV_ONE_BUFFER });
          const taken = lengths.map((length, i) => rig.receive(pattern(length, i)) === 1);
          const got: number[] = [];
          let next = 0;
          const seen: number[] = [];
          // The driver: takes what is done, gives the descriptors back.
          for (let turn = 0; turn < 30; turn++) {
            for (; (rig.words(RX_RING, next)[2]! & RxStatus.DD) !== 0 && rig.read(Reg.RDH) !== next; next = (next + 1) % ENTRIES) {
              const [, , status, length] = rig.words(RX_RING, next) as [number, number, number, number];
              for (const byte of rig.load(BUFFERS + next * size, length)) got.push(byte);
              if ((status & RxStatus.EOP) !== 0) seen.push(got.length);
              rig.put(RX_RING, next, [BUFFERS + next * size, 0, 0, 0]);
            }
            rig.write(Reg.RDT, (next + ENTRIES - 1) % ENTRIES);
          }
          const kept = lengths.flatMap((length, i) => (taken[i] ? [pattern(length, i)] : []));
          expect(got).toEqual(kept.flatMap((frame) => [...frame]));
          expect(seen).toHaveLength(kept.length);
          const missed = [...rig.counts].filter(([register]) => register === 0x4010).reduce((sum, [, n]) => sum + n, 0);
          expect(rig.read(Reg.RQDPC) + missed).toBe(lengths.length - kept.length);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('descriptors and registers of random words do no harm, and a good packet leaves afterwards', () => {
    const word = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 0xffff_ffff, BUFFERS, TX_RING, 0x2130_0040, 0xab30_0040));
    const entry = fc.tuple(word, fc.constantFrom(0, 0, 0, 0xffff_ffff), word, word);
    fc.assert(
      fc.property(
        fc.array(entry, { minLength: ENTRIES, maxLength: ENTRIES }),
        fc.nat(0xffff),
        fc.nat(0xf_ffff),
        (entries, tail, length) => {
          const rig = new RingsRig();
          rig.startTransmit(0, ENTRIES);
          rig.startReceive(0, ENTRIES, { ring: TX_RING });
          for (const [i, words] of entries.entries()) rig.put(TX_RING, i, words);
          rig.ring(tail % ENTRIES);
          rig.write(Reg.TDLEN, length);
          rig.write(Reg.TDT, tail);
          rig.receive(pattern(3000));
          for (let i = 0; i < 5; i++) rig.host.clock.advance(0);
          for (const { bytes } of rig.sent) expect(bytes.length).toBeLessThanOrEqual(9724);
          rig.write(Reg.TXDCTL, 0);
          rig.startTransmit(0, ENTRIES, 0x3000);
          rig.sent.length = 0;
          const words = [
            BUFFERS,
            0,
            (TxCommand.DEXT | TxCommand.DTYP_DATA | TxCommand.EOP | TxCommand.IFCS | 64) >>> 0,
            64 << TxStatus.PAYLEN_SHIFT,
          ];
          rig.put(0x3000, 0, words);
          rig.ring(1);
          expect(rig.sent.map(({ bytes }) => bytes)).toEqual([rig.load(BUFFERS, 64)]);
        },
      ),
      { numRuns: 150 },
    );
  });
});
