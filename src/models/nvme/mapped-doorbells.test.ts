import { describe, expect, it } from 'vitest';
import { type CommandFields, ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import {
  AdminOpcode,
  Cc,
  CQES,
  cqDoorbell,
  EventError,
  EventType,
  NvmeReg,
  NvmOpcode,
  regBits,
  Shn,
  SQES,
  sqDoorbell,
} from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { Command, Config } from '../../abi/pci.ts';
import { kinds } from '../../events/kinds.ts';
import { NONE } from './mapped-doorbells.ts';
import type { NvmeOptions } from './nvme.ts';

const FLUSH: CommandFields = { opcode: NvmOpcode.FLUSH, nsid: 1 };
const EVENT: CommandFields = { opcode: AdminOpcode.ASYNC_EVENT_REQUEST };
const ON = regBits(Cc.EN, 1) | regBits(Cc.IOSQES, SQES) | regBits(Cc.IOCQES, CQES);
const SQ1 = sqDoorbell(1, 0);
const CQ1 = cqDoorbell(1, 0);

/** A controller with a queue pair 1, and a host that maps the doorbells. */
function mapped(options: Partial<NvmeOptions> = {}) {
  const c = new ControllerUnderTest({ doorbells: 'mapped', ...options });
  c.host.config.write(Config.COMMAND, 2, Command.MEMORY | Command.MASTER);
  const { windows } = c.host.barMemory(0);
  const words = new Uint32Array(windows[0]!.buffer);
  const load = (register: number) => words[register / 4]!;
  const store = (register: number, value: number) => {
    words[register / 4] = value;
  };
  const start = () => {
    c.enable();
    c.createPair(1);
  };
  start();
  const put = (fields = FLUSH) => {
    c.put(1, fields);
    store(SQ1, c.pairs.get(1)!.tail);
  };
  const pass = (ms = 20) => c.host.clock.advance(ms);
  return { c, load, store, start, put, pass };
}

const eventOf = (error: number) => (error << 8) | EventType.ERROR;

describe('doorbells that the host maps', () => {
  it('are found by polling: tails and heads', () => {
    const { c, store, put, pass } = mapped();
    // More than the queue holds: the head's doorbell makes room.
    for (let i = 0; i < 40; i++) {
      put();
      pass();
      const ended = c.completions(1, false);
      expect(ended.map((e) => e.code)).toEqual([0]);
      store(CQ1, c.pairs.get(1)!.head);
    }
  });

  it('take writes by accesses too, at once, and the memory has their values', () => {
    const { c, load, put, pass } = mapped();
    expect(c.run(1, FLUSH).code).toBe(0);
    expect([load(SQ1), load(CQ1), c.r(SQ1), c.r(CQ1)]).toEqual([1, 1, 1, 1]);
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
    expect(c.r(SQ1)).toBe(2);
  });

  it('several stores between two looks count as one', () => {
    const { c, put, pass } = mapped();
    for (let i = 0; i < 5; i++) put();
    pass();
    expect(c.completions(1, false)).toHaveLength(5);
  });

  it.each([
    ['a value past the end', SQ1, 99, EventError.INVALID_DOORBELL_VALUE],
    ['a head past the tail', CQ1, 5, EventError.INVALID_DOORBELL_VALUE],
    ['a doorbell of no queue, also of value 0', sqDoorbell(2, 0), 0, EventError.INVALID_DOORBELL_REGISTER],
    ['a doorbell behind the last queue', 0x1ffc, 1, EventError.INVALID_DOORBELL_REGISTER],
  ])('NVMe 1.4 5.2.1 %s: an event, as with a register, each time', (_, register, value, error) => {
    const { c, store, put, pass } = mapped();
    for (let i = 0; i < 2; i++) {
      c.submit(0, EVENT);
      store(register, value);
      pass();
      expect(c.completions(0).map((e) => e.result & 0xffff)).toEqual([eventOf(error)]);
      // Reading the log makes the next event of the kind possible (5.2).
      c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, cdw10: 1 | (15 << 16), prp1: c.page() });
    }
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it('a reset of the controller clears them: a tail with the value from before is news', () => {
    const { c, start, put, pass } = mapped();
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
    c.w(NvmeReg.CC, 0);
    pass();
    c.reuse();
    start();
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it('of a queue that is gone have no value: a store of its last one is refused', () => {
    const { c, load, store, put, pass } = mapped();
    c.submit(0, EVENT);
    put();
    pass();
    c.completions(1, false);
    store(CQ1, 1);
    pass();
    c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 });
    expect([load(SQ1), load(CQ1)]).toEqual([NONE, NONE]);
    store(SQ1, 1);
    pass();
    expect(c.completions(0).map(({ result }) => result & 0xffff)).toEqual([eventOf(EventError.INVALID_DOORBELL_REGISTER)]);
  });

  it('a queue that is made again begins at 0', () => {
    const { c, load, put, pass } = mapped();
    put();
    pass();
    c.completions(1, false);
    c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 });
    c.createPair(1);
    expect([load(SQ1), load(CQ1)]).toEqual([0, 0]);
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it.each(['COMMAND.Memory', 'D3hot'] as const)('stores that no bus would carry (%s) are lost', (how) => {
    const { c, load, put, pass } = mapped();
    const carry = (on: boolean) => {
      if (how === 'D3hot') c.model.power!(on ? 'D0' : 'D3hot');
      else c.host.config.write(Config.COMMAND, 2, on ? Command.MEMORY | Command.MASTER : Command.MASTER);
    };
    put();
    // The store before comes first.
    carry(false);
    expect(c.completions(1, false)).toHaveLength(1);
    put();
    pass();
    carry(true);
    expect(load(SQ1)).toBe(1);
    pass();
    expect(c.completions(1, false)).toHaveLength(0);
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(2);
  });

  it('a store comes before the shutdown that is asked for after it', () => {
    const { c, put } = mapped();
    put();
    c.w(NvmeReg.CC, ON | regBits(Cc.SHN, Shn.NORMAL));
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it.each([
    ['a reset of the controller', (c: ControllerUnderTest) => c.w(NvmeReg.CC, 0)],
    ['a reset of the function', (c: ControllerUnderTest) => c.host.reset()],
    ['a shutdown', (c: ControllerUnderTest) => c.w(NvmeReg.CC, ON | regBits(Cc.SHN, Shn.NORMAL))],
    ['the end of memory decoding', (c: ControllerUnderTest) => c.host.config.write(Config.COMMAND, 2, 0)],
    ['a stop', (c: ControllerUnderTest) => c.model.migration!.stop()],
    ['the end', (c: ControllerUnderTest) => c.model.dispose!()],
  ])('nothing polls after %s', (_, act) => {
    const { c, store, pass } = mapped();
    expect(c.host.clock.pendingTimers).toBe(1);
    act(c);
    expect(c.host.clock.pendingTimers).toBe(0);
    store(SQ1, 1);
    pass(100);
    expect(c.host.clock.pendingTimers).toBe(0);
  });

  it('shadow doorbells are not offered: Invalid Command Opcode', () => {
    const { c } = mapped();
    const page = c.page();
    expect(c.admin({ opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1: page, prp2: c.page() }).code).toBe(Status.INVALID_OPCODE);
    c.admin({ opcode: AdminOpcode.IDENTIFY, prp1: page, cdw10: 1 });
    expect(c.view.getUint16(page - 0x10_0000 + 256, true) & (1 << 8)).toBe(0);
  });

  it('B.11 a store before the stop moves with the controller; one while it stands still waits', () => {
    const { c, put, pass } = mapped();
    put();
    c.model.migration!.stop();
    expect(c.completions(1, false)).toHaveLength(0);
    const state = c.model.migration!.save();
    const other = new ControllerUnderTest({ doorbells: 'mapped', host: c.host, queues: 64 });
    other.host.config.write(Config.COMMAND, 2, Command.MEMORY | Command.MASTER);
    const target = other.model;
    target.migration!.stop();
    target.reset();
    target.configWritten!(Config.COMMAND, 2);
    target.migration!.load(state, target.migration!.version);
    target.migration!.start();
    expect(c.completions(1, false)).toHaveLength(1);
    target.migration!.stop();
    put();
    pass();
    expect(c.completions(1, false)).toHaveLength(0);
    target.migration!.start();
    pass();
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it('with readers, a doorbell that was found is an access, and the cause of its commands', () => {
    const { c, put, pass } = mapped();
    using events = c.host.stream.read();
    put();
    pass();
    const found = events.take();
    const access = found.find((e) => e.kind === 'access');
    expect(access).toMatchObject({ op: 'write', region: 0, offset: SQ1, value: 1 });
    expect(kinds.access.words(access as never)).toBe('write32 BAR 0+0x1008 ← 0x1  found by polling');
    expect(found.find((e) => e.kind === 'command')).toMatchObject({ name: 'Flush', cause: access!.seq });
  });
});
