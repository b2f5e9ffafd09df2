import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { copyBulk, copyDirty, DEPTH, Driver, type Io, Pages, Server, turn } from '../../../../tests/kit/nvme/moved-disk.ts';
import { TEST_PAGE, TestMemory } from '../../../../tests/kit/nvme/test-memory.ts';
import { AdminOpcode, FeatureId, LogId } from '../../../abi/nvme.ts';
import { ManualClock } from '../../../base/clock.ts';

const SIZE = 2 ** 20;
const BLOCKS = SIZE / 512;

const io: fc.Arbitrary<Io> = fc.record({
  kind: fc.constantFrom('read', 'read', 'write', 'write', 'zeroes', 'deallocate', 'flush', 'compare', 'verify'),
  lba: fc.nat(BLOCKS - 9),
  blocks: fc.integer({ min: 1, max: 8 }),
  seed: fc.nat(0xffff),
});

type Step =
  | { readonly do: 'submit'; readonly ios: readonly Io[] }
  | { readonly do: 'admin'; readonly which: number }
  | { readonly do: 'advance'; readonly ms: number }
  | { readonly do: 'end'; readonly count: number }
  | { readonly do: 'answer' | 'consume' | 'turn' | 'precopy' | 'move' | 'stay' | 'quiet' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('submit' as const), ios: fc.array(io, { minLength: 1, maxLength: DEPTH }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('admin' as const), which: fc.nat(4) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.constantFrom(0, 0.1, 1, 5) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('end' as const), count: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 9, arbitrary: fc.record({ do: fc.constantFrom('answer', 'consume', 'consume', 'turn', 'precopy', 'move', 'stay', 'quiet') }) },
);

/** The state of the world. */
const setting = fc.record({
  late: fc.boolean(),
  remoteBuffers: fc.boolean(),
  remoteQueues: fc.boolean(),
  shadow: fc.boolean(),
  coalesce: fc.boolean(),
  limited: fc.boolean(),
  cqSize: fc.constantFrom(4, 8, 64),
});
type Setting = fc.Arbitrary<unknown> extends never ? never : typeof setting extends fc.Arbitrary<infer T> ? T : never;

class World {
  readonly memory = new TestMemory(Pages.BUFFERS + DEPTH);
  readonly clock = new ManualClock();
  readonly vectors = new Set<number>();
  readonly all: Server[] = [];
  readonly driver: Driver;
  readonly setting: Setting;
  next: Server | null = null;

  constructor(setting: Setting) {
    this.setting = setting;
    const { remoteBuffers, remoteQueues, cqSize, shadow } = setting;
    if (remoteBuffers) this.memory.kinds.fill('remote', Pages.BUFFERS);
    if (remoteQueues && !shadow) this.memory.kinds.fill('remote', 0, Pages.BUFFERS);
    this.memory.hold = true;
    this.driver = new Driver(this.server(), this.memory, this.vectors, SIZE, cqSize);
  }

  server(): Server {
    const limits = this.setting.limited ? { limits: { iops: 2000, latencyMs: 0.5 } } : {};
    const server = new Server(this, { queues: 4, queueEntries: 64, namespaces: [limits as never] }, SIZE, this.setting.late);
    this.all.push(server);
    return server;
  }

  async begin(): Promise<void> {
    const { driver } = this;
    await driver.enable();
    const { shadow, coalesce } = this.setting;
    if (shadow) {
      const prp1 = driver.address(Pages.SHADOW);
      await driver.mustRun({ opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1, prp2: driver.address(Pages.EVENTS) });
      driver.shadow = true;
    }
    if (coalesce) await driver.mustRun({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.INTERRUPT_COALESCING, cdw11: (20 << 8) | 4 });
    for (let i = 0; i < 2; i++) driver.start({ opcode: AdminOpcode.ASYNC_EVENT_REQUEST }, () => {});
  }

  async do(step: Step): Promise<void> {
    const { driver } = this;
    switch (step.do) {
      case 'submit':
        for (const each of step.ios) driver.submit(each);
        break;
      case 'admin':
        this.admin(step.which);
        break;
      case 'advance':
        this.clock.advance(step.ms);
        break;
      case 'end':
        driver.server.storage.end(step.count);
        break;
      case 'answer':
        this.memory.answer();
        break;
      case 'consume':
        driver.consume();
        break;
      case 'turn':
        await turn();
        break;
      case 'precopy': {
        const from = driver.server.model.migration!.bulk!;
        if (this.next === null) {
          this.next = this.server();
          from.startTracking();
          copyBulk(from, this.next.model.migration!.bulk!);
        } else copyDirty(from, this.next.model.migration!.bulk!);
        break;
      }
      case 'move':
        await this.move();
        break;
      case 'stay':
        // Cut: what was saved goes nowhere.
        await driver.server.leave(this.memory);
        if (step.do === 'stay') driver.server.stay();
        break;
      case 'quiet':
        driver.server.model.migration!.p2p!.enter();
        driver.server.model.migration!.p2p!.leave();
        break;
    }
  }

  async move(): Promise<void> {
    const { driver } = this;
    const source = driver.server;
    const bulk = source.model.migration!.bulk!;
    const tracked = this.next !== null;
    const target = this.next ?? this.server();
    this.next = null;
    const state = await source.leave(this.memory);
    if (tracked) copyDirty(bulk, target.model.migration!.bulk!);
    else copyBulk(bulk, target.model.migration!.bulk!);
    if (tracked) bulk.stopTracking();
    // Doorbells that the host rings meanwhile reach no memory.
    driver.server = target;
    target.arrive(state);
    // Where it came from nothing happens any more, for any waiter.
    source.storage.end();
    this.memory.answer();
    await turn();
  }

  admin(which: number): void {
    const { driver } = this;
    if (driver.admin.size > 8) return;
    const buffer = driver.address(Pages.SQ + 2);
    const done = (status: number) => {
      if (status !== 0) throw new Error(`admin command of kind ${which} ended with 0x${status.toString(16)}`);
    };
    const commands = [
      { opcode: AdminOpcode.IDENTIFY, prp1: buffer, cdw10: 1 },
      { opcode: AdminOpcode.GET_LOG_PAGE, prp1: buffer, cdw10: (127 << 16) | LogId.SMART },
      { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ERROR_RECOVERY, cdw11: 5 },
      { opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES },
      { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.TIMESTAMP, prp1: driver.address(Pages.SQ + 3) },
    ];
    driver.start(commands[which]!, done);
  }

  /** Everything ends. */
  async finish(): Promise<void> {
    const { driver } = this;
    for (let round = 0; round < 400 && (driver.inFlight.size > 0 || driver.admin.size > 2); round++) {
      driver.server.storage.end();
      this.memory.answer();
      await turn();
      this.clock.advance(1);
      driver.consume();
    }
  }
}

const answer = { do: 'answer' } as const;
/** The controller halts between the end of a message with completions and its own look at it. */
const haltBetween: [Setting, Step[]] = [
  { late: false, remoteBuffers: false, remoteQueues: true, shadow: false, coalesce: false, limited: false, cqSize: 4 },
  [answer, { do: 'admin', which: 2 }, answer, answer, answer, { do: 'admin', which: 0 }, answer, answer, { do: 'move' }],
];

describe('B.11 an NVMe disk is moved while it works', () => {
  it('B.11 at any point, any number of times: each command ends once, and every byte is what it should be', {
    timeout: 180_000,
  }, async () => {
    let moves = 0;
    await fc.assert(
      fc.asyncProperty(setting, fc.array(step, { minLength: 5, maxLength: 40 }), async (settings, steps) => {
        const world = new World(settings);
        const { driver, memory } = world;
        await world.begin();
        for (const each of steps) {
          if (each.do === 'move') moves++;
          await world.do(each);
        }
        await world.finish();
        expect([...driver.inFlight.values()]).toEqual([]);
        // The two requests for events wait still.
        expect(driver.admin.size).toBe(2);
        expect(world.all.flatMap(({ violations }) => violations)).toEqual([]);
        const disk = new Uint8Array(SIZE);
        driver.server.storage.inner.read(0, disk);
        expect(Buffer.compare(disk, driver.reference)).toBe(0);
        // Pages that no message named.
        expect(memory.bytes.subarray((Pages.CQ + 2) * TEST_PAGE, Pages.BUFFERS * TEST_PAGE).every((byte) => byte === 0)).toBe(true);
      }),
      { numRuns: 250, examples: [haltBetween] },
    );
    expect(moves).toBeGreaterThan(100);
  });
});
