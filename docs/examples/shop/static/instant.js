// InstantSearch, on the same index and as the same user as the server.
{
  const { index, counted, insightsInitParams, searchClient } = window.shop;
  const search = instantsearch({
    indexName: index,
    searchClient: searchClient(),
    insights: counted && { insightsClient: window.aa, insightsInitParams },
    routing: false,
  });
  const hit = (item, { html, sendEvent }) => html`
    <div class="hit" data-object-id=${item.objectID} data-position=${item.__position} data-query-id=${item.__queryID || ""}>
      <a
        class="hit-link"
        href=${`/product/${encodeURIComponent(item.objectID)}`}
        onClick=${() => sendEvent("click", item, "Product Clicked")}
      >
        <span class=${`picture ${item.category}`}>
          <svg class="icon" aria-hidden="true"><use href=${`/static/icons.svg#${item.category}`}></use></svg>
        </span>
        <span class="name">${item.name}</span>
      </a>
      <span class="by">${item.brand}</span>
      <span class="price">€ ${item.price.toFixed(2)}</span>
    </div>`;
  document.getElementById("instant-hits").replaceChildren();
  const { configure, searchBox, menu, hits } = instantsearch.widgets;
  search.addWidgets([
    configure({ hitsPerPage: 12, clickAnalytics: counted }),
    searchBox({ container: "#instant-search", placeholder: "Search as you type" }),
    menu({ container: "#instant-brands", attribute: "brand" }),
    hits({ container: "#instant-hits", templates: { item: hit, empty: "Nothing matches." } }),
  ]);
  search.start();
  document.querySelector(".ais-SearchBox-input").id = "instant-search-input";
}
