/**
 * Where the frames of a zstd file end (RFC 8878, 3.1). A file that is written piece by piece has
 * many, and Node's decompressor stops after the first.
 */
import { VfioError } from '../base/errno.ts';

const MAGIC = 0xfd2fb528;
/** Its last digit is any. */
const SKIPPABLE = 0x184d2a50;
const RLE = 1;

/** The next bytes of a frame, which are looked at (`keep`) or not (`skip`). */
type Want = { readonly keep: number } | { readonly skip: number };

function* frame(): Generator<Want, void, Uint8Array> {
  const magic = word(yield { keep: 4 });
  if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE) {
    yield { skip: word(yield { keep: 4 }) };
    return;
  }
  if (magic !== MAGIC) throw new VfioError('EINVAL', 'it is not compressed by zstd');
  const [descriptor = 0] = yield { keep: 1 };
  const isSingle = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  const size = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  yield { skip: (isSingle ? 0 : 1) + dictionary + size };
  for (let isLast = false; !isLast; ) {
    const [low = 0, middle = 0, high = 0] = yield { keep: 3 };
    const head = low | (middle << 8) | (high << 16);
    isLast = (head & 1) !== 0;
    yield { skip: ((head >> 1) & 3) === RLE ? 1 : head >> 3 };
  }
  if ((descriptor & 4) !== 0) yield { skip: 4 };
}

function word(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

/** The bytes of a file, frame by frame. */
export class ZstdFrames {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Whether there is another frame. */
  async more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      this.#rest = next.value;
    }
    return true;
  }

  /** The parts of the next frame. @throws VfioError EINVAL for bytes that are no frame */
  async *parts(): AsyncGenerator<Uint8Array, void, void> {
    const walk = frame();
    let step = walk.next();
    let kept: number[] = [];
    let skipped = 0;
    while (step.done !== true && (await this.more())) {
      const bytes = this.#rest;
      let at = 0;
      while (step.done !== true) {
        const want: Want = step.value;
        if ('keep' in want) while (kept.length < want.keep && at < bytes.length) kept.push(bytes[at++]!);
        else {
          const size = Math.min(want.skip - skipped, bytes.length - at);
          skipped += size;
          at += size;
        }
        if ('keep' in want ? kept.length < want.keep : skipped < want.skip) break;
        step = walk.next(Uint8Array.from(kept));
        kept = [];
        skipped = 0;
      }
      this.#rest = bytes.subarray(at);
      yield bytes.subarray(0, at);
    }
  }
}
