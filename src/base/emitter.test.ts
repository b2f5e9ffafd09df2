import { expect, it } from 'vitest';
import { Emitter } from './emitter.ts';

function setup() {
  const failures: unknown[] = [];
  const heard: string[] = [];
  const emitter = new Emitter<string>((event, error) => failures.push([event, error]));
  return { emitter, failures, heard };
}

it('an event reaches listeners in the order of their registration', () => {
  const { emitter, heard } = setup();
  emitter.on((event) => heard.push(`a ${event}`));
  emitter.on((event) => heard.push(`b ${event}`));
  emitter.emit('x');
  expect(heard).toEqual(['a x', 'b x']);
});

it('a listener that throws, or rejects, is reported, and the event still reaches the others', async () => {
  const { emitter, heard, failures } = setup();
  emitter.on(() => {
    throw 'thrown';
  });
  emitter.on(async () => {
    throw 'rejected';
  });
  emitter.on((event) => heard.push(event));
  emitter.emit('x');
  await Promise.resolve().then(() => {});
  expect(heard).toEqual(['x']);
  expect(failures).toEqual([
    ['x', 'thrown'],
    ['x', 'rejected'],
  ]);
});

it('the same function may listen twice, and each registration is disposed by itself', () => {
  const { emitter, heard } = setup();
  const listener = (event: string) => void heard.push(event);
  const first = emitter.on(listener);
  emitter.on(listener);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  emitter.emit('x');
  expect(heard).toEqual(['x']);
});

it('a listener that is disposed during an emission hears nothing more', () => {
  const { emitter, heard } = setup();
  emitter.on(() => second[Symbol.dispose]());
  const second = emitter.on((event) => heard.push(event));
  emitter.emit('x');
  expect(heard).toEqual([]);
});

it('a listener that is added during an emission hears the next event', () => {
  const { emitter, heard } = setup();
  const once = emitter.on(() => {
    once[Symbol.dispose]();
    emitter.on((event) => heard.push(event));
  });
  emitter.emit('x');
  emitter.emit('y');
  expect(heard).toEqual(['y']);
});

it('an emission goes on to its end when a listener clears the emitter', () => {
  const { emitter, heard } = setup();
  emitter.on(() => emitter.clear());
  emitter.on((event) => heard.push(event));
  emitter.emit('x');
  emitter.emit('y');
  expect(heard).toEqual(['x']);
});
