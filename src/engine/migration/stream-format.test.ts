/** A device takes nothing of a stream that was changed on the way. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { load, MigrationSide, readAll, save } from '../../../tests/kit/migration-rig.ts';
import { type MovableModel, movable } from '../../../tests/kit/movable-model.ts';
import { VfioError } from '../../base/errno.ts';
import { Section, Store, ZERO_BLOCKS_MAX, ZeroBlocks } from './sections.ts';
import { encodePreamble, SECTION_BYTES, SectionFlags, SectionHeader, SectionReader, SectionWriter } from './stream-format.ts';

const model = movable({ bulk: true, p2p: true });
const source = new MigrationSide(model);
for (let block = 0; block < 8; block++) (source.host.model as MovableModel).store.write(3 * block, new Uint8Array(512).fill(block + 1));
source.device.region(7).write16(4, 6);
source.device.region(0).write32(4, 0x1234);
const data = save(source);
source.migration.go('RUNNING');

/** The sections of `bytes`, and how many bytes of preamble stand before them. */
function sectionsOf(bytes: Uint8Array): Uint8Array[] {
  const sections: Uint8Array[] = [];
  for (let at = 16; at < bytes.length; ) {
    const length = SectionHeader.length.get(new DataView(bytes.buffer, bytes.byteOffset), at);
    sections.push(bytes.slice(at, at + SECTION_BYTES + length));
    at += SECTION_BYTES + length;
  }
  return sections;
}

const sections = sectionsOf(data);

/** Number the sections anew and check them again, as a writer who knows the format can. */
function seal(changed: readonly Uint8Array[]): Uint8Array {
  const writer = new SectionWriter();
  const made = changed.map((section) => {
    const { type, version, flags } = SectionHeader.decode(new DataView(section.buffer, section.byteOffset));
    return writer.seal(type, version, section.slice(), flags);
  });
  return Buffer.concat([encodePreamble(), ...made]);
}

/** 'taken', or the errno; the device is in ERROR then, and a reset brings it back. */
function offer(bytes: Uint8Array, pieceBytes = bytes.length): string {
  using target = new MigrationSide(model);
  try {
    using stream = target.migration.go('RESUMING')!;
    for (let at = 0; at < bytes.length; at += pieceBytes) stream.write(bytes.subarray(at, at + pieceBytes));
    target.migration.go('STOP');
    return 'taken';
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    expect(target.migration.state).toBe('ERROR');
    target.device.reset();
    expect(target.migration.state).toBe('RUNNING');
    expect(target.logged).toEqual([]);
    return error.code;
  }
}

describe('B.11 the data of a device', () => {
  it('is taken in pieces of any size', () => {
    for (const size of [1, 7, 24, 1000, data.length]) expect(offer(data, size)).toBe('taken');
  });

  it('with any bit changed is EINVAL', () => {
    fc.assert(
      fc.property(fc.nat(data.length - 1), fc.nat(7), fc.constantFrom(1000, data.length), (at, bit, size) => {
        const changed = data.slice();
        changed[at]! ^= 1 << bit;
        expect(offer(changed, size)).toBe('EINVAL');
      }),
      { numRuns: 150 },
    );
  });

  it('cut short anywhere is EINVAL', () => {
    fc.assert(
      fc.property(fc.nat(data.length - 1), (length) => {
        expect(offer(data.slice(0, length))).toBe('EINVAL');
      }),
      { numRuns: 100 },
    );
  });

  it('with sections left out, doubled or changed places is EINVAL, whether or not they were numbered anew where it matters', () => {
    const at = fc.nat(sections.length - 1);
    fc.assert(
      fc.property(at, at, fc.constantFrom('drop', 'double', 'swap'), (i, j, how) => {
        const changed = [...sections];
        if (how === 'drop') changed.splice(i, 1);
        else if (how === 'double') changed.splice(i, 0, changed[i]!);
        else [changed[i], changed[j]] = [changed[j]!, changed[i]!];
        const same = changed.every((section, k) => section === sections[k]) && changed.length === sections.length;
        expect(offer(Buffer.concat([data.slice(0, 16), ...changed]))).toBe(same ? 'taken' : 'EINVAL');
        // Numbered anew it may be a stream that a device could have sent; every other one is
        // EINVAL.
        expect(['taken', 'EINVAL']).toContain(offer(seal(changed)));
      }),
      { numRuns: 60 },
    );
  });

  it('with something behind its end is EINVAL', () => {
    expect(offer(Buffer.concat([data, new Uint8Array(1)]), data.length)).toBe('EINVAL');
    expect(offer(seal([...sections, sections.at(-2)!]))).toBe('EINVAL');
    expect(offer(Buffer.concat([data, new Uint8Array(SECTION_BYTES)]))).toBe('EINVAL');
  });

  it('any bytes at all are EINVAL', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void expect(offer(bytes)).toBe('EINVAL')),
      { numRuns: 60 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(offer(Buffer.concat([encodePreamble(), bytes]))).toBe('EINVAL');
      }),
      { numRuns: 60 },
    );
  });

  it('whose payloads are anything, under good checksums, does no harm', () => {
    fc.assert(
      fc.property(fc.nat(sections.length - 1), fc.uint8Array({ maxLength: 80 }), fc.nat(100), (i, payload, at) => {
        const changed = [...sections];
        const old = changed[i]!;
        const patched = old.slice();
        patched.set(payload.subarray(0, Math.max(0, old.length - SECTION_BYTES - at)), Math.min(SECTION_BYTES + at, old.length));
        changed[i] = patched;
        expect(['taken', 'EINVAL']).toContain(offer(seal(changed)));
        const short = new Uint8Array(SECTION_BYTES + payload.length);
        short.set(old.subarray(0, SECTION_BYTES));
        short.set(payload, SECTION_BYTES);
        changed[i] = short;
        expect(['taken', 'EINVAL']).toContain(offer(seal(changed)));
      }),
      { numRuns: 100 },
    );
  });

  it('of a later version: sections that may be passed over are, others are refused', () => {
    const extra = (flags: number, type = 999, version = 1) => {
      const section = new Uint8Array(SECTION_BYTES + 70_000).fill(7);
      SectionHeader.encode(new DataView(section.buffer), 0, { type, version, flags, reserved: 0 });
      return section;
    };
    for (const at of [1, 3, sections.length - 1]) {
      const withExtra = (section: Uint8Array) => seal([...sections.slice(0, at), section, ...sections.slice(at)]);
      expect(offer(withExtra(extra(SectionFlags.OPTIONAL)), 1000)).toBe('taken');
      expect(offer(withExtra(extra(SectionFlags.OPTIONAL, 5, 2)))).toBe('taken');
      expect(offer(withExtra(extra(0)))).toBe('EINVAL');
      expect(offer(withExtra(extra(2)))).toBe('EINVAL');
    }
    const newer = sections.map((section) => section.slice());
    SectionHeader.version.set(new DataView(newer[4]!.buffer), 0, 2);
    expect(offer(seal(newer))).toBe('EINVAL');
  });
});

it('B.11 a section of zeroes says no more than a sender does: the work that a few bytes ask for is bounded', () => {
  using side = new MigrationSide(movable({ bulk: true, blocks: 4 * ZERO_BLOCKS_MAX, blockSize: 512 }));
  const model = side.host.model as MovableModel;
  let looked = 0;
  const { present } = model.store;
  model.store.present = (block) => {
    looked++;
    return present.call(model.store, block);
  };
  const store = new Uint8Array(SECTION_BYTES + Store.structSize);
  Store.encode(new DataView(store.buffer), SECTION_BYTES, { store: 0, block_size: 512, size: BigInt(model.store.size) });
  const zeroes = new Uint8Array(SECTION_BYTES + ZeroBlocks.structSize);
  const write = (count: number) => {
    ZeroBlocks.encode(new DataView(zeroes.buffer), SECTION_BYTES, { store: 0, first: 0n, count: BigInt(count) });
    const writer = new SectionWriter();
    using stream = side.migration.go('RESUMING')!;
    stream.write(encodePreamble());
    stream.write(writer.seal(Section.IDENTITY, 1, sections[0]!.slice()));
    stream.write(writer.seal(Section.STORE, 1, store));
    looked = 0;
    try {
      stream.write(writer.seal(Section.ZERO_BLOCKS, 1, zeroes));
      return 'taken';
    } catch (error) {
      return (error as VfioError).code;
    } finally {
      side.device.reset();
    }
  };
  expect([write(ZERO_BLOCKS_MAX), looked]).toEqual(['taken', ZERO_BLOCKS_MAX]);
  expect([write(ZERO_BLOCKS_MAX + 1), looked]).toEqual(['EINVAL', 0]);
});

it('B.11 no room is made for what a header only promises', () => {
  const seen: number[] = [];
  const reader = new SectionReader({
    kind: () => ({ name: 'LARGE', version: 1, max: 2 ** 30 }),
    onSection: (_type, _version, payload) => void seen.push(payload.length),
  });
  const section = new SectionWriter().section(1, 1, new Uint8Array(0));
  const writer = new SectionWriter();
  const large = writer.section(1, 1, new Uint8Array(200_000));
  reader.push(encodePreamble());
  reader.push(large);
  expect(seen).toEqual([200_000]);
  expect(section.length).toBe(SECTION_BYTES);
  const limited = new SectionReader({ kind: () => ({ name: 'SMALL', version: 1, max: 100 }), onSection: () => {} });
  limited.push(encodePreamble());
  expect(() => limited.push(large.subarray(0, SECTION_BYTES))).toThrow('at most 100');
  expect(() => limited.push(new Uint8Array(0))).toThrow('at most 100');
});

it('B.11 what was broken while it came says so ever after', () => {
  using target = new MigrationSide(model);
  const stream = target.migration.go('RESUMING')!;
  const changed = data.slice();
  changed[20]! ^= 1;
  expect(() => stream.write(changed)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => stream.write(data)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(target.migration.state).toBe('ERROR');
});

it('B.11 a stream taken while the device ran, and one taken at once, say the same', () => {
  using running = new MigrationSide(model);
  load(running, data);
  const stream = running.migration.go('PRE_COPY')!;
  const first = readAll(stream);
  running.migration.go('STOP_COPY');
  const all = Buffer.concat([first, readAll(stream)]);
  expect(Buffer.compare(all, data)).toBe(0);
});
