/**
 * The process of `CardsProcess`: cards-process-child.ts FOLDER SECONDS. It serves two cards, and
 * virtual functions of the first one, at sockets of the folder.
 */
import { join } from 'node:path';
import { openThrough } from '../../../src/api/simulation.ts';
import { Cleanup } from '../../../src/base/cleanup.ts';
import { MemfdMemory } from '../../../src/sys/memfd.ts';
import { UnixListener } from '../../../src/sys/unix-listener.ts';
import { VfioUserServer } from '../../../src/vfio-user/server.ts';
import { CARDS, TOKEN, twoCards, vfAddress } from './cards.ts';
import type { Answer, Question } from './cards-process.ts';

const [folder, seconds] = process.argv.slice(2) as [string, string];
setTimeout(() => process.exit(3), Number(seconds) * 1000);
process.on('disconnect', () => process.exit(0));

/** Virtual functions that have sockets. */
const VFS = 7;
let addresses: ReadonlyMap<string, () => VfioUserServer>;
let running: Disposable & { readonly machine: ReturnType<typeof twoCards>['machine'] };

function run(): void {
  using undo = new Cleanup();
  const { machine, owns } = twoCards(MemfdMemory.allocate);
  undo.use(owns);
  const serverOf = (bdf: string) => {
    let server: VfioUserServer | null = null;
    undo.defer(() => server?.[Symbol.dispose]());
    return () => {
      server ??= new VfioUserServer({
        name: bdf,
        open: () => {
          const { device, owns: handles } = openThrough(machine, bdf, undefined, TOKEN);
          handles[Symbol.dispose]();
          return device;
        },
      });
      return server;
    };
  };
  const vfs = Array.from({ length: VFS }, (_, vf): [string, () => VfioUserServer] => [`vf${vf}`, serverOf(vfAddress(vf))]);
  addresses = new Map([['card0', serverOf(CARDS[0])], ['card1', serverOf(CARDS[1])], ...vfs]);
  const all = undo.move();
  running = { machine, [Symbol.dispose]: () => all[Symbol.dispose]() };
}

run();
for (const name of addresses!.keys()) {
  UnixListener.listen(join(folder, `${name}.sock`)).onConnection((socket) => void addresses.get(name)!().serve(socket));
}

process.on('message', async ({ number, ask, count }: Question) => {
  if (ask === 'fresh') {
    const old = running;
    run();
    old[Symbol.dispose]();
  } else {
    await running.machine.setNumVfs(CARDS[0], count!);
  }
  process.send!({ number } satisfies Answer);
});
process.send!({ number: 0 } satisfies Answer);
