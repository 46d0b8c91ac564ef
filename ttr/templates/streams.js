// A stream of answers ends once its end was read. The page's library cuts off whichever stream it opened last: while a
// file is on its way that is another, and what is asked next would wait for this one (apps/service/streams.py).
const ttrStream = (() => {
  const END = /^data: ?\{"msg":"close_stream"/m;
  function ended(response) {
    const reader = response.body.getReader(), words = new TextDecoder();
    let line = "";
    const body = new ReadableStream({
      async pull(to) {
        const { done, value } = await reader.read();
        if (done) return to.close();
        to.enqueue(value);
        const read = line + words.decode(value, { stream: true });
        line = read.slice(read.lastIndexOf("\n") + 1);
        if (!END.test(read)) return;
        to.close();
        reader.cancel();
      },
      cancel: (why) => reader.cancel(why),
    });
    return new Response(body, response);
  }
  const fetched = window.fetch;
  window.fetch = async (asked, ...rest) => {
    const response = await fetched(asked, ...rest);
    return String(asked?.url ?? asked).includes("/queue/data?") && response.ok ? ended(response) : response;
  };
  return { ended };
})();
