// A device with the usual mistakes of a model's code, one in each register. None of them may end
// the process that serves it.
import { bar, device, reg } from 'vfio-ts';

async function work(): Promise<void> {
  await null;
  throw new Error('in its own async function');
}

export default device({
  id: '1234:bad0',
  name: 'careless',
  bar0: bar('4K', { unawaited: reg(0), floating: reg(4), timer: reg(8), immediate: reg(12), own: reg(16), nothing: reg(20) }),
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
