// The field in the header, which the browser completes by itself; Enter lets the server search.
{
  const { autocomplete, getAlgoliaResults } = window["@algolia/autocomplete-js"];
  const { index, counted, insightsInitParams, searchClient } = window.shop;
  const client = searchClient();
  const container = document.getElementById("autocomplete");
  // Without a reference: search-insights tells of the click, and by it Algolia finds the search for what comes of it.
  const pageOf = (item) => `/product/${encodeURIComponent(item.objectID)}`;
  autocomplete({
    container,
    placeholder: "Search products",
    initialState: { query: container.dataset.query },
    detachedMediaQuery: "none",
    insights: counted && { insightsClient: window.aa, insightsInitParams },
    onSubmit: ({ state }) => location.assign(`/?q=${encodeURIComponent(state.query)}`),
    getSources: () => [
      {
        sourceId: "products",
        getItemUrl: ({ item }) => pageOf(item),
        getItems: ({ query }) =>
          getAlgoliaResults({
            searchClient: client,
            queries: [{ indexName: index, params: { query, hitsPerPage: 5, clickAnalytics: counted } }],
          }),
        templates: {
          item: ({ item, html }) =>
            html`<a class="suggestion" data-object-id=${item.objectID} href=${pageOf(item)}>
              <span>${item.name}</span><span class="by">${item.brand}</span>
            </a>`,
        },
      },
    ],
  });
}
