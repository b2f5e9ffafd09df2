import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import type { InterruptSink, SetIrqs } from '../abi/device.ts';
import { IrqIndex } from '../abi/vfio.ts';
import { checkAction, checkIndexAction, notifyAct, validateSetIrqs } from './set-irqs.ts';

const U32_MAX = 0xffff_ffff;

const none = (index: number, start: number, count: number): SetIrqs => ({ index, start, count, action: 'trigger', data: 'none' });
const validate = (request: SetIrqs) => errnoFrom(() => validateSetIrqs('device', request, () => 4));

describe('B.7 SET_IRQS of every device', () => {
  it('a range inside the index passes', () => {
    expect([validate(none(1, 0, 4)), validate(none(1, 3, 1)), validate(none(1, 0, 0))]).toEqual(['none', 'none', 'none']);
  });

  it('a range that leaves the index, or 32 bits, is EINVAL', () => {
    const ranges = [
      none(1, 4, 0),
      none(1, 0, 5),
      none(1, 3, 2),
      none(1, U32_MAX, 1),
      none(1, 1, U32_MAX - 1),
      none(1, -1, 1),
      none(1, 0, 0.5),
    ];
    expect(ranges.map(validate)).toEqual(Array(ranges.length).fill('EINVAL'));
  });

  it('an index that does not exist is EINVAL', () => {
    expect([-1, 5, 0.5].map((index) => validate(none(index, 0, 1)))).toEqual(Array(3).fill('EINVAL'));
  });

  it('data of no type, or for fewer interrupts than are named, is EINVAL', () => {
    const wrong = [
      { index: 1, start: 0, count: 2, action: 'trigger', data: 'sinks', sinks: [null] },
      { index: 1, start: 0, count: 2, action: 'unmask', data: 'sinks', sinks: [null, null] },
      { index: 1, start: 0, count: 2, action: 'trigger', data: 'bool', values: [true] },
      { index: 1, start: 0, count: 1, action: 'trigger', data: 'eventfds' },
      null,
    ] as unknown as SetIrqs[];
    expect(wrong.map(validate)).toEqual(Array(wrong.length).fill('EINVAL'));
  });

  it('the number of interrupts is asked for only when the range fits 32 bits', () => {
    const available = () => {
      throw new Error('asked');
    };
    expect(errnoFrom(() => validateSetIrqs('device', none(1, 1, U32_MAX - 1), available))).toBe('EINVAL');
  });
});

describe('B.9 the matrix', () => {
  const act = (index: number, action: string) => ({ index, start: 0, count: 1, action, data: 'none' }) as SetIrqs;

  it('an action that is none is ENOTTY', () => {
    expect([errnoFrom(() => checkAction('device', act(0, 'mask'))), errnoFrom(() => checkAction('device', act(0, 'twiddle')))]).toEqual([
      'none',
      'ENOTTY',
    ]);
  });

  it('INTx alone has masks', () => {
    const rows = [IrqIndex.INTX, IrqIndex.MSI, IrqIndex.MSIX, IrqIndex.ERR, IrqIndex.REQ].map((index) =>
      ['trigger', 'mask', 'unmask'].map((action) => errnoFrom(() => checkIndexAction('device', act(index, action)))),
    );
    expect(rows).toEqual([['none', 'none', 'none'], ...Array(4).fill(['none', 'ENOTTY', 'ENOTTY'])]);
  });
});

describe('B.9 ERR and REQ', () => {
  const sink = {} as InterruptSink;
  const trigger = (count: number, data: object) => ({ index: IrqIndex.REQ, start: 0, count, action: 'trigger', ...data }) as SetIrqs;
  const answer = (request: SetIrqs, assigned: boolean): string => {
    let made = '';
    const code = errnoFrom(() => {
      made = notifyAct('device', request, assigned).act;
    });
    return code === 'none' ? made : code;
  };

  it('DATA_NONE signals, and with count 0 releases; without a sink it is EINVAL', () => {
    const requests = [trigger(1, { data: 'none' }), trigger(0, { data: 'none' })];
    expect(requests.map((request) => [answer(request, true), answer(request, false)])).toEqual([
      ['signal', 'EINVAL'],
      ['release', 'EINVAL'],
    ]);
  });

  it('DATA_BOOL signals where it is true; of no interrupt it is EINVAL', () => {
    const requests = [[1], [0], []].map((values) => trigger(values.length, { data: 'bool', values: Uint8Array.from(values) }));
    expect(requests.map((request) => answer(request, false))).toEqual(['signal', 'nothing', 'EINVAL']);
  });

  it('a sink, or null, takes the place of the one before', () => {
    expect([[sink], [null]].map((sinks) => answer(trigger(1, { data: 'sinks', sinks }), true))).toEqual(['assign', 'assign']);
  });

  it('masks are ENOTTY', () => {
    expect(answer({ ...trigger(1, { data: 'none' }), action: 'mask' } as SetIrqs, true)).toBe('ENOTTY');
  });
});
