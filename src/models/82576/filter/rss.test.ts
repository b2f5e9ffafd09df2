import { expect, it } from 'vitest';
import { RSS_KEY_BYTES, RssHash } from './rss.js';

/** The key and the results of 7.1.1.7.5, which are Microsoft's. */
const KEY = Uint8Array.from(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa'.match(/../g)!.map((byte) => Number.parseInt(byte, 16)),
);

const v4 = (text: string): number[] => text.split('.').map(Number);
const v6 = (text: string): number[] => {
  const [head = '', tail] = text.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const behind = tail === undefined ? [] : groups(tail);
  const front = groups(head);
  return [...front, ...Array<string>(8 - front.length - behind.length).fill('0'), ...behind]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >>> 8, group & 0xff]);
};
const port = (number: number): number[] => [number >>> 8, number & 0xff];

const vectors: ReadonlyArray<
  readonly [source: number[], sourcePort: number, destination: number[], port: number, ip: number, tcp: number]
> = [
  [v4('66.9.149.187'), 2794, v4('161.142.100.80'), 1766, 0x323e8fc2, 0x51ccc178],
  [v4('199.92.111.2'), 14230, v4('65.69.140.83'), 4739, 0xd718262a, 0xc626b0ea],
  [v4('24.19.198.95'), 12898, v4('12.22.207.184'), 38024, 0xd2d0a5de, 0x5c2b394a],
  [v4('38.27.205.30'), 48228, v4('209.142.163.6'), 2217, 0x82989176, 0xafc7327f],
  [v4('153.39.163.191'), 44251, v4('202.188.127.2'), 1303, 0x5d1809c5, 0x10e828a2],
  [v6('3ffe:2501:200:1fff::7'), 2794, v6('3ffe:2501:200:3::1'), 1766, 0x2cc18cd5, 0x40207d3d],
  [v6('3ffe:501:8::260:97ff:fe40:efab'), 14230, v6('ff02::1'), 4739, 0x0f0c461c, 0xdde51bbf],
  [v6('3ffe:1900:4545:3:200:f8ff:fe21:67cf'), 44251, v6('fe80::200:f8ff:fe21:67cf'), 38024, 0x4b61e985, 0x02d1feef],
];

it.each(vectors)('7.1.1.7.5: the hash of %j, port %i, has the verification result', (source, sourcePort, destination, to, ip, tcp) => {
  const hash = new RssHash();
  hash.setKey(KEY);
  const addresses = Uint8Array.from([...source, ...destination]);
  const input = Uint8Array.from([...addresses, ...port(sourcePort), ...port(to)]);
  expect(KEY.length).toBe(RSS_KEY_BYTES);
  expect(hash.add(0, 0, addresses, 0, addresses.length) >>> 0).toBe(ip);
  expect(hash.add(0, 0, input, 0, input.length) >>> 0).toBe(tcp);
  // In two pieces, as addresses and ports lie in a frame.
  expect(hash.add(hash.add(0, 0, input, 0, addresses.length), addresses.length, input, addresses.length, 4) >>> 0).toBe(tcp);
});

it('7.1.1.7.2: a new key replaces all of the old one', () => {
  const hash = new RssHash();
  hash.setKey(KEY.map((byte) => byte ^ 0xff));
  hash.setKey(KEY);
  const input = Uint8Array.from([...v4('66.9.149.187'), ...v4('161.142.100.80')]);
  expect(hash.add(0, 0, input, 0, 8) >>> 0).toBe(0x323e8fc2);
});
