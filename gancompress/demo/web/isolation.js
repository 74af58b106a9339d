// Threads need an isolated page. Where the host does not send the headers, a service worker does.

const TRIED = "isolation-tried";

/** Resolves to why the page has one thread only, or to nothing; may reload the page once. */
export async function isolate() {
  if (self.crossOriginIsolated) {
    sessionStorage.removeItem(TRIED);
    return null;
  }
  if (!self.isSecureContext || !("serviceWorker" in navigator)) {
    return "This page runs on one thread: browsers give more only over https, or on this machine.";
  }
  const failed = "This page runs on one thread: its host does not isolate it.";
  if (sessionStorage.getItem(TRIED)) return failed;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    sessionStorage.setItem(TRIED, "yes");
    location.reload();
    return new Promise(() => {}); // the new page goes on
  } catch {
    return failed;
  }
}
