import { expect, it } from 'vitest';
import { sameAs, tells } from './checks.ts';
import { Facts } from './facts.ts';

function factsOf(...lines: string[]): Facts {
  const facts = new Facts();
  for (const line of lines) facts.add(`@ ${line}`);
  return facts;
}

it('a missing fact, or a wrong one, fails its check', () => {
  const facts = factsOf('served a 1', 'served b 2');
  tells('', 'served', { a: '1', b: '2' }).run(facts);
  expect(() => tells('', 'served', { a: '1', b: '3' }).run(facts)).toThrow("b is '2', should be '3'");
  expect(() => tells('', 'served', { c: '' }).run(facts)).toThrow('printed no c');
});

it('two subjects must have the same facts, each all of them', () => {
  const facts = factsOf('qemu x.a 1', 'served x.a 1', 'qemu x.b at 7', 'served x.b at 9', 'qemu y.c 1');
  expect(() => sameAs('', 'served', 'qemu', 'x.').run(facts)).toThrow("x.b is 'at 9', should be 'at 7'");
  sameAs('', 'served', 'qemu', 'x.', { normalize: (value) => value.replace(/at \d/, 'at N') }).run(facts);
  sameAs('', 'served', 'qemu', 'x.', { except: { 'x.b': 'at 9' } }).run(facts);
  expect(() => sameAs('', 'served', 'qemu', 'x.', { except: { 'x.b': 'at 7' } }).run(facts)).toThrow("should be 'at 7'");
  expect(() => sameAs('', 'served', 'qemu', 'y.').run(facts)).toThrow('printed no y.c of served');
  expect(() => sameAs('', 'served', 'qemu', 'z.').run(facts)).toThrow('there is no fact');
});
