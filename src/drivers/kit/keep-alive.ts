/** A wait keeps the process alive: clocks and in-process interrupts do not, and a driver that waits for one is not done. */
export function keepAlive(): Disposable {
  const timer = setInterval(() => {}, 2 ** 30);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
