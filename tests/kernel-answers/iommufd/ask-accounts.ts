/**
 * Who pays for locked memory, and how much a user may have: iommufd-limits.txt, -many.txt,
 * -process.txt and -user.txt.
 */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { ALL, CONFIG, IommufdAsker, io, PG, packed } from './asker.ts';

const RLIMIT_MODE = 0;
const SET = 0;

export class LimitQuestions extends IommufdAsker {
  ask(): void {
    for (const mode of [0, 1]) {
      this.say(`# rlimit mode ${mode === 1 ? '1 (mm)' : '0 (user, default)'}`);
      this.io = this.openIommu();
      if (mode === 1) this.option(RLIMIT_MODE, SET, 0, 1, 'RLIMIT_MODE SET 1');
      const device = this.openCdev();
      this.bind(device, this.io, '');
      const [a, b, m] = [this.ioas('a'), this.ioas('b'), this.anon(64 * PG)];
      this.#asRoot(device, a, b, m);
      this.inChild(() => this.#withoutCapability(device, a, b, m));
      this.user.close(device);
      this.user.close(this.io);
      this.limit(1 << 20);
    }
  }

  #asRoot(device: number, a: number, b: number, m: number): void {
    this.limit(8);
    this.map(b, 7, m, 32 * PG, 0x10_0000, '32 pages in an unattached ioas, with CAP_IPC_LOCK');
    this.vm();
    this.unmap(b, 0, ALL, '');
    this.attach(device, a, '');
    this.map(a, 7, m, 16 * PG, 0x10_0000, '16 pages attached, limit 8, root');
    this.vm();
    this.unmap(a, 0, ALL, 'all');
    this.map(a, 7, m, 8 * PG, 0x10_0000, '8 pages, root');
    this.vm();
    this.copy(b, 0x10_0000, a, 0x10_0000, 8 * PG, 7, 'to b (counted again?)');
    this.copy(a, 0x30_0000, a, 0x10_0000, 8 * PG, 7, 'a->a (counted again?)');
    this.vm();
    this.map(a, 7, m, PG, 0x20_0000, 'the same page by a second MAP');
    this.vm();
    this.unmap(a, 0, ALL, 'all');
    this.unmap(b, 0, ALL, 'b');
    this.vm();
  }

  #withoutCapability(device: number, a: number, b: number, m: number): void {
    this.drop('CAP_IPC_LOCK', 14);
    this.map(a, 7, m, 16 * PG, 0x10_0000, 'child without CAP_IPC_LOCK: 16 pages');
    this.vm();
    this.map(a, 7, m, 8 * PG, 0x10_0000, '8 pages');
    this.map(a, 7, m + 8 * PG, PG, 0x20_0000, '1 more');
    this.vm();
    this.unmap(a, 0, ALL, 'all');
    this.map(b, 7, m, 16 * PG, 0x10_0000, '16 pages in unattached b');
    this.attach(device, b, 'b over the limit (replace)');
    this.vm();
    this.unmap(b, 0, ALL, 'b');
  }
}

export class ManyQuestions extends IommufdAsker {
  ask(): void {
    const [MAPS, SPACES] = [100_000, 20_000];
    this.io = this.openIommu();
    const device = this.openCdev();
    this.bind(device, this.io, '');
    const a = this.ioas('a');
    this.attach(device, a, '');
    const m = BigInt(this.anon(PG));
    this.limit(1 << 20);
    let made = 0;
    const map = packed([40, 7, a, 0, m, BigInt(PG), 0n]);
    const view = new DataView(map.buffer);
    for (; made < MAPS; made++) {
      view.setBigUint64(32, BigInt(0x1000_0000 + made * 2 * PG), true);
      if (this.user.ioctl(this.io, io(IommufdCommand.IOAS_MAP), map) !== 0) break;
    }
    this.t(made < MAPS ? -1 : 0, `1-page maps until refused or ${MAPS}: ${made} made in SECONDS s, then`);
    this.vm();
    this.unmap(a, 0, ALL, 'all');
    const alloc = packed([12, 0, 0]);
    let spaces = 0;
    while (spaces < SPACES && this.user.ioctl(this.io, io(IommufdCommand.IOAS_ALLOC), alloc) === 0) spaces++;
    const last = new DataView(alloc.buffer).getUint32(8, true);
    this.t(spaces < SPACES ? -1 : 0, `IOAS_ALLOC until refused or ${SPACES}: ${spaces}, last id ${last}`);
  }
}

export class ProcessQuestions extends IommufdAsker {
  ask(): void {
    this.drop('CAP_IPC_LOCK', 14);
    for (const mode of [0, 1]) {
      this.say(`# rlimit mode ${mode}`);
      this.#askMode(mode);
    }
  }

  #askMode(mode: number): void {
    this.io = this.openIommu();
    if (mode === 1) this.option(RLIMIT_MODE, SET, 0, 1, 'RLIMIT_MODE SET 1');
    const device = this.openCdev();
    this.bind(device, this.io, '');
    const a = this.ioas('a');
    this.attach(device, a, '');
    const file = this.memfd(16 * PG);
    this.mapFile(a, file, 0, 4 * PG, 0x10_0000, 7, '4 pages');
    this.vm();
    const change = (what: string) => this.x(this.io, io(IommufdCommand.IOAS_CHANGE_PROCESS), [8, 0], `CHANGE_PROCESS ${what}`);
    const parent = this.user;
    this.inChild(() => {
      this.vm();
      change('in the child');
      this.vm();
      const child = this.user;
      this.say('(parent, meanwhile)');
      this.user = parent;
      this.vm();
      this.user = child;
      this.say('(child, 1 s later)');
      this.vm();
    });
    this.say('(parent, child dead)');
    this.vm();
    this.unmap(a, 0, ALL, 'all');
    this.vm();
    this.mapFile(a, file, 0, 4 * PG, 0x10_0000, 7, '4 pages');
    this.limit(2);
    this.inChild(() => {
      change('in a child with RLIMIT_MEMLOCK 2 pages');
      this.vm();
    });
    this.limit(1 << 20);
    this.unmap(a, 0, ALL, 'all');
    this.user.close(device);
    this.user.close(this.io);
  }
}

/** An ordinary user, to whom root gives the two nodes after the first two questions. */
export class UserQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    const { cdev } = this.subject;
    this.t(u.open(cdev), 'uid 1000: open(cdev)');
    this.t(u.open('/dev/iommu'), 'uid 1000: open(/dev/iommu)');
    this.subject.giveNodes();
    const device = this.t(u.open(cdev), 'uid 1000: open(cdev)');
    this.io = this.t(u.open('/dev/iommu'), 'uid 1000: open(/dev/iommu)');
    this.bind(device, this.io, '');
    const a = this.ioas('');
    this.attach(device, a, '');
    const limit = u.process.memlockLimit;
    this.say(`RLIMIT_MEMLOCK ${limit}`);
    const m = this.anon(16 << 20);
    this.map(a, 7, m, limit, 0, 'exactly RLIMIT_MEMLOCK');
    this.map(a, 7, m, PG, 1 << 30, 'one page more');
    this.option(RLIMIT_MODE, SET, 0, 1, 'RLIMIT_MODE SET');
    this.inChild(() => {
      this.ioas('second iommufd, same uid', this.openIommu());
      this.map(a, 7, m, PG, 1 << 30, 'child process, same uid: one page more');
    });
    this.t(u.pread(device, new Uint8Array(4), CONFIG), 'pread CONFIG');
    this.x(this.io, io(IommufdCommand.FAULT_QUEUE_ALLOC), [16, 0, 0, 0], 'FAULT_QUEUE_ALLOC');
  }
}
