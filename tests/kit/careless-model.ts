// A device with the usual mistakes of a model's code, one in each register. None of them may end
// the process that serves it.
import { bar, device, registers, u32 } from 'vfio-ts';

async function work(): Promise<void> {
  await null;
  throw new Error('in its own async function');
}

const Careless = registers({
  unawaited: u32(0),
  floating: u32(4),
  timer: u32(8),
  immediate: u32(12),
  own: u32(16),
  nothing: u32(20),
});

export default device({
  id: '1234:bad0',
  name: 'careless',
  bars: { bar0: bar('4K', Careless) },
  on: {
    'bar0.unawaited'({ dma }) {
      void dma.write(0xdead_0000n, new Uint8Array(8));
    },
    'bar0.floating'() {
      Promise.reject(new Error('a floating rejection'));
    },
    'bar0.timer'() {
      setTimeout(() => {
        throw new Error('in a timer of Node');
      }, 1);
    },
    'bar0.immediate'() {
      setImmediate(() => void Promise.reject(Object.create(null)));
    },
    'bar0.own'() {
      void work();
    },
    'bar0.nothing'() {
      queueMicrotask(() => {
        throw new Error('in a microtask');
      });
    },
  },
});
