/**
 * Accesses of 32 and 64 bits to registers of an edu device, and their values: the liveness
 * register, which inverts what is written, and the source of DMA, which keeps it.
 */

const LIVENESS = 0x04;
const DMA_SOURCE = 0x80;

export interface EduAccess {
  readonly op: 'read' | 'write';
  readonly offset: number;
  readonly width: 4 | 8;
  readonly value: bigint;
}

/** `count` accesses, the same each time. Each value that is written has the access's number. */
export function* eduAccesses(count: number): Generator<EduAccess> {
  let state = 0x2545_f491;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return BigInt(state >>> 0);
  };
  let live = 0x1111_2222n;
  let source = 0n;
  yield { op: 'write', offset: LIVENESS, width: 4, value: live };
  yield { op: 'write', offset: DMA_SOURCE, width: 8, value: source };
  for (let i = 2; i < count; i++) {
    const kind = next() & 3n;
    if (kind === 0n) {
      live = (next() & 0xffff_0000n) | BigInt(i & 0xffff);
      yield { op: 'write', offset: LIVENESS, width: 4, value: live };
    } else if (kind === 1n) {
      source = (next() << 32n) | BigInt(i);
      yield { op: 'write', offset: DMA_SOURCE, width: 8, value: source };
    } else if (kind === 2n) yield { op: 'read', offset: LIVENESS, width: 4, value: live ^ 0xffff_ffffn };
    else yield { op: 'read', offset: DMA_SOURCE, width: 8, value: source };
  }
}
