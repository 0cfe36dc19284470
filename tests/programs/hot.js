// Burns in hot and in warm, in slices, as a server's requests do. Each slice makes new functions as well: V8 writes its map through a
// buffer, which they fill.
'use strict';

function spin(n) {
  let x = 1;
  for (let i = 0; i < n; i++) x = (x * 1103515245 + 12345) % 2147483648;
  return x;
}

function hot() {
  let sum = 0;
  for (let i = 0; i < 3; i++) sum += spin(20000);
  return sum;
}

function warm() {
  let sum = 0;
  for (let i = 0; i < 1000; i++) sum += Math.sqrt(sum + i);
  return sum;
}

let made = 0;

function slice() {
  for (let i = 0; i < 200; i++) made += new Function('return ' + (made % 1000) + ' - ' + i)();
  const end = Date.now() + 50;
  while (Date.now() < end) {
    hot();
    warm();
  }
  setImmediate(slice);
}

console.log('ready', process.pid);
process.stdin.on('end', () => process.exit(0)).resume();
slice();
