/**
 * A process that has an image open: file-storage-child.ts WHAT PATH. It prints `open` when it has
 * the image, or `refused CODE MESSAGE`, and then waits until it is ended.
 */
import { VfioError } from '../../src/base/errno.ts';
import { FileStorage } from '../../src/sys/file-storage.ts';

const [what, path] = process.argv.slice(2) as [string, string];
const say = (line: string) => process.stdout.write(`${line}\n`);

/** So many writes that some are under way at any time. */
function writeMuch(storage: FileStorage): void {
  const queue = storage.open(() => {});
  const bytes = new Uint8Array(1 << 20).fill(1);
  for (let i = 0; i < 64; i++) queue.write(i % 2 === 0 ? 0 : 1 << 20, bytes, i, true);
  queue.submit();
}

/** Past the limit on the size of files that the process was started with. */
function writePastLimit(storage: FileStorage): void {
  const queue = storage.open((tag, result) => say(`${tag} ${result}`));
  queue.write(0, new Uint8Array(4096).fill(1), 1, false);
  queue.write(1 << 20, new Uint8Array(4096).fill(1), 2, false);
  queue.write(1 << 20, new Uint8Array(4096).fill(1), 3, true);
  queue.write((1 << 16) - 2048, new Uint8Array(4096).fill(1), 4, true);
  say(`now ${queue.tryWrite(1 << 20, new Uint8Array(4096))}`);
  queue.flush(5);
  queue.submit();
  queue.drain();
}

/**
 * One operation after the other, with the result of each; `now` is the bytes that can be read at
 * once.
 */
function oneByOne(storage: FileStorage): void {
  const queue = storage.open((tag, result) => say(`${tag} ${result}`));
  const page = (value: number) => new Uint8Array(8192).fill(value);
  const into = page(0);
  const steps: ((tag: number) => void)[] = [
    (tag) => queue.write(0, page(1), tag, false),
    (tag) => queue.flush(tag),
    (tag) => queue.write(8192, page(2), tag, true),
    (tag) => queue.flush(tag),
    (tag) => queue.zero(1, 100_000, tag, true),
    (tag) => queue.read(0, into, tag),
    (tag) => queue.write(0, page(3), tag, false),
    (tag) => queue.flush(tag),
  ];
  for (const [tag, step] of steps.entries()) {
    step(tag);
    queue.submit();
    queue.drain();
  }
  say(`now ${queue.tryRead(0, into)} ${into[0]}`);
}

try {
  const storage = FileStorage.open(path, { readOnly: what === 'read' });
  say('open');
  switch (what) {
    case 'read':
    case 'hold':
      setInterval(() => {}, 1000);
      break;
    case 'exit':
      writeMuch(storage);
      process.exit(7);
      break;
    case 'end': {
      // The write alone keeps the process alive.
      const queue = storage.open((tag, result) => say(`ended ${tag} ${result}`));
      queue.write(0, new Uint8Array(4096).fill(9), 1, true);
      queue.submit();
      break;
    }
    case 'leave':
      // Ends with an open storage and no operation under way.
      writeMuch(storage);
      storage.open(() => {}).drain();
      break;
    case 'one-by-one':
      oneByOne(storage);
      break;
    case 'limit':
      writePastLimit(storage);
      break;
  }
} catch (error) {
  if (!(error instanceof VfioError)) throw error;
  say(`refused ${error.code} ${error.message}`);
}
