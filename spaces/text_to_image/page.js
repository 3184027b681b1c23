() => {
  // what changes below the sentence is read out by screen readers
  document.querySelector("#status").setAttribute("aria-live", "polite");
  document.querySelector("#dark").setAttribute("aria-label", "Light or dark");

  // the handle of the comparison takes the keyboard, too; it comes anew with each pair of pictures
  const name = () => {
    const handle = document.querySelector("#slider [data-testid=slider]");
    if (!handle || handle.tabIndex === 0) return;
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "Where the left picture ends and the right one begins");
    handle.setAttribute("aria-valuemin", 0);
    handle.setAttribute("aria-valuemax", 100);
    handle.setAttribute("aria-valuenow", 50);
  };
  new MutationObserver(name).observe(document.querySelector("#views"), { childList: true, subtree: true });
  name();
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    const handle = event.target.closest?.("#slider [data-testid=slider]");
    if (!step || !handle) return;
    event.preventDefault();
    const frame = handle.parentElement.getBoundingClientRect();
    const own = handle.getBoundingClientRect();
    const from = own.left + own.width / 2;
    const to = Math.min(Math.max(from + step * frame.width, frame.left), frame.right);
    const move = (target, kind, x) =>
      target.dispatchEvent(
        new MouseEvent(kind, { clientX: x, clientY: own.top + own.height / 2, bubbles: true, cancelable: true, view: window })
      );
    move(handle, "mousedown", from);
    move(window, "mousemove", to);
    move(window, "mouseup", to);
    handle.setAttribute("aria-valuenow", Math.round((100 * (to - frame.left)) / frame.width));
  });
}
